"""Checks that hold for every listing."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
from pydantic import BaseModel


def fits(model: type[BaseModel], answer: Any) -> Any:
    """Return an answer's JSON after holding it to its model: no member more, none missing."""
    assert answer.status_code < 300, answer.text
    model.model_validate_json(answer.content)
    return answer.json()


def problem(answer: Any, status: int, kind: str) -> dict[str, Any]:
    """Return a problem document after looking at its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{kind}"
    assert body["title_zh"]
    return body


def all_pages(get: Any, path: str, name: str, **query: Any) -> list[dict[str, Any]]:
    """Return the rows of all pages of a listing."""
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = get(path, params=query | ({"cursor": cursor} if cursor else {})).json()
        rows += page[name]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows


def lines(answer: Any) -> list[dict[str, Any]]:
    """Return the rows of an NDJSON answer."""
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [msgspec.json.decode(line) for line in answer.content.splitlines()]


def sheet(answer: Any) -> list[dict[str, str]]:
    """Return the rows of a CSV answer as a spreadsheet reads them."""
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))

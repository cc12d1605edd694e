"""Small things that several routes share: problems in two languages, and OpenAPI of answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from trace_engine.service.problems import Problem
from trace_engine.service.routes._answers import CSV, JSON, NDJSON

NEXT_HEADERS: dict[str, Any] = {
    "Link": {
        "description": 'Where the next page is: `<...>; rel="next"`',
        "schema": {"type": "string"},
    },
    "X-Next-Cursor": {"description": "As `next_cursor` in JSON", "schema": {"type": "string"}},
}


def not_found(detail: str, detail_zh: str) -> Problem:
    """Return the answer for something that does not exist."""
    return Problem(404, "not-found", detail=detail, detail_zh=detail_zh)


def error_at(where: str, what: str, what_zh: str) -> dict[str, str]:
    """Return what is wrong with a value that its type allows and its meaning does not."""
    return {"where": where, "what": what, "what_zh": what_zh, "rule": "value_error"}


def invalid(where: str, what: str, what_zh: str) -> Problem:
    """Return the answer for one value that its type allows and its meaning does not."""
    return Problem(422, "invalid", errors=[error_at(where, what, what_zh)])


def listing(model: type[BaseModel], row: type[BaseModel], what: str) -> dict[int | str, Any]:
    """Return OpenAPI of a listing served as JSON, NDJSON (one row a line) and CSV."""
    return {
        200: {
            "model": model,
            "description": what,
            "headers": NEXT_HEADERS,
            "content": {
                JSON: {},
                NDJSON: {
                    "schema": {
                        "type": "string",
                        "description": f"One {row.__name__} as JSON a line",
                    }
                },
                CSV: {
                    "schema": {
                        "type": "string",
                        "description": "For spreadsheets: UTF-8 with a byte-order mark, cells "
                        "that cannot be taken for formulas",
                    }
                },
            },
        }
    }

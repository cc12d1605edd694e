"""Answers in the form a caller asked for: JSON, NDJSON or CSV, encoded off the event loop.

Routes answer with finished bytes: rows come from our own tables, so checking each of them again
against its model would cost more than reading them. The models stand in the OpenAPI document, and
tests hold the answers to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request, Response

from trace_engine.service.problems import Problem

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
GRAPHML = "application/graphml+xml"

_ENCODER = msgspec.json.Encoder(decimal_format="number")


def negotiate(request: Request, offered: Sequence[str]) -> str:
    """Return the media type of ``offered`` that ``Accept`` likes best; the first if it is open.

    Quality values and wildcards as in RFC 9110, section 12.5.1. Raises :class:`Problem` 406 where
    nothing fits.
    """
    accept = ",".join(request.headers.getlist("accept")).strip()
    if not accept:
        return offered[0]
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    best, liked = None, 0.0
    for media in offered:
        quality = _quality(media, ranges)
        if quality > liked:
            best, liked = media, quality
    if best is None:
        raise Problem(
            406,
            "not-acceptable",
            detail=f"This address answers with {', '.join(offered)}.",
            detail_zh=f"此地址可用的格式：{'、'.join(offered)}。",
        )
    return best


def _media_range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return media, quality if quality == quality else 0.0  # NaN likes nothing


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that covers ``media``, 0 for none."""
    main = media.partition("/")[0]
    for wanted in (media, f"{main}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as JSON: times with their zone (ISO 8601), dates, lists, nested maps."""
    return _ENCODER.encode(value)


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, media: str = JSON
) -> Response:
    """Return ``value`` as a JSON response."""
    return Response(json_bytes(value), status, dict(headers or {}), media)


def rows_answer(
    media: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    headers: Mapping[str, str],
    name: str,
) -> Response:
    """Return rows as NDJSON, one object a line, or as CSV for spreadsheets with these columns.

    CSV is UTF-8 with a byte-order mark; no cell can be taken for a formula; objects are JSON text.
    """
    named = {**headers, "Vary": "Accept"}
    if media == NDJSON:
        return Response(b"".join(_lines(rows)), 200, named, NDJSON)
    named["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return Response(csv_bytes(rows, columns), 200, named, f"{CSV}; charset=utf-8")


def _lines(rows: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    for row in rows:
        yield _ENCODER.encode(row)
        yield b"\n"


def csv_bytes(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Return rows as CSV with these columns; the header stands there without rows too."""
    from trace_engine.reports.tables import csv_bytes as spreadsheet

    if not rows:
        return spreadsheet([dict.fromkeys(columns, "")]).splitlines(keepends=True)[0]
    return spreadsheet([{name: _plain(row.get(name)) for name in columns} for row in rows])


def _plain(value: Any) -> Any:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else value


def entity_tag(*parts: Any) -> str:
    """Return a weak entity tag of what an answer is made from."""
    digest = hashlib.blake2b(json_bytes(list(parts)), digest_size=12, person=b"te-etag")
    return f'W/"{digest.hexdigest()}"'


def unchanged(request: Request, tag: str) -> Response | None:
    """Return 304 if the caller already has the representation ``tag`` (RFC 9110, 13.1.2)."""
    stated = ",".join(request.headers.getlist("if-none-match"))
    known = {part.strip().removeprefix("W/") for part in stated.split(",")}
    if tag.removeprefix("W/") in known or "*" in known:
        return Response(None, 304, {"ETag": tag, "Vary": "Accept"})
    return None

"""Pages: cursors that say where the next one begins, and the header that leads there."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import Query, Request

from trace_engine.service.problems import Problem

VERSION = 1
_CHECK = 8  # bytes of the checksum at the end of a cursor
LONGEST_CURSOR = 512  # characters

Position = int | str

CursorQuery = Annotated[
    str | None,
    Query(
        description="Where the page begins: `next_cursor` of the page before. Filters and order "
        "must be the same.",
        max_length=LONGEST_CURSOR,
    ),
]
LimitQuery = Annotated[
    int, Query(ge=1, le=1000, description="Most rows on the page.", examples=[100])
]


def encode_cursor(listing: str, filters: Mapping[str, Any], position: list[Position]) -> str:
    """Return an opaque cursor for ``position`` in a listing with these filters."""
    body = msgspec.json.encode([VERSION, position])
    check = _checksum(listing, filters, body)
    return base64.urlsafe_b64encode(check + body).rstrip(b"=").decode()


def decode_cursor(
    listing: str, filters: Mapping[str, Any], cursor: str | None, types: tuple[type, ...]
) -> list[Any] | None:
    """Return the position that ``cursor`` holds, None for none: one value of each of ``types``.

    A cursor is checked, not trusted: one that was altered, belongs to another listing or was made
    with other filters raises :class:`Problem` 400 instead of answering with a wrong page.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(
            cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        )
        version, position = msgspec.json.decode(raw[_CHECK:], type=tuple[int, list[Any]])
    except (ValueError, UnicodeEncodeError, msgspec.DecodeError):
        raise _unusable() from None
    fits = len(position) == len(types) and all(
        type(value) is kind for value, kind in zip(position, types, strict=False)
    )
    same = raw[:_CHECK] == _checksum(listing, filters, raw[_CHECK:])
    if version != VERSION or not fits or not same:
        raise _unusable()
    return position


def next_link(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the headers that lead to the next page (RFC 8288), none on the last one."""
    if cursor is None:
        return {}
    url = request.url.include_query_params(cursor=cursor)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"', "X-Next-Cursor": cursor}


def _checksum(listing: str, filters: Mapping[str, Any], body: bytes) -> bytes:
    stated = {name: value for name, value in filters.items() if value is not None}
    text = msgspec.json.encode([listing, stated], order="sorted")
    return hashlib.blake2b(text + b"\0" + body, digest_size=_CHECK, person=b"te-cursor").digest()


def _unusable() -> Problem:
    return Problem(
        400,
        "bad-request",
        detail="The cursor is not one of this listing with these filters and this order: begin "
        "again without a cursor.",
        detail_zh="游标与所用的筛选条件或排序不符，请去掉 cursor 从头查询。",
    )

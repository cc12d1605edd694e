"""The door: a request's body in, checked and encoded events and what the journal keeps out.

Everything dear happens in few threads of its own, never on the event loop: unpacking within limits,
reading (JSON, one object a line, Arrow), hashing numbers of persons, encoding. What is refused as a
whole is a :class:`~trace_engine.service.problems.Problem` and leaves nothing behind; what is refused
row by row is in ``Encoded.rejects``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import pyarrow as pa

from trace_engine.events.encode import Encoded, Encoder
from trace_engine.events.findings import REJECTS
from trace_engine.events.raw import InputError, RawBatch
from trace_engine.readers.arrow_ipc import Shape, TooLarge, read_arrow
from trace_engine.readers.objects import Decoders, Objects, read_array, read_lines
from trace_engine.readers.payload import admit, replay
from trace_engine.service.problems import Problem
from trace_engine.store.journal import MOST_PAYLOAD_BYTES

PATH = "body"  # what rejects name where files name themselves
MOST_ROWS = 250_000
MOST_UNPACKED = 256 << 20  # bytes of one body
MOST_ENCODINGS = 1
SMALL_BODY = 512 << 10  # bytes as sent
# What a small body may hold, so that it is read in a tenth of a second even where every row is
# refused (50 µs each). Bytes are those of Arrow unpacked, or of the texts its columns stand for (64
# for each value of a dictionary); its messages are a dictionary for each column and few batches.
SMALL = Shape(2_000, 4 << 20, 64)
_PIECE = 1 << 20


class Media(StrEnum):
    """Types of bodies that carry events."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    ARROW_STREAM = "application/vnd.apache.arrow.stream"
    ARROW_FILE = "application/vnd.apache.arrow.file"


_ALIASES = {
    "application/ndjson": Media.NDJSON,
    "application/jsonl": Media.NDJSON,
    "application/jsonlines": Media.NDJSON,
    "application/x-jsonlines": Media.NDJSON,
}
ENCODINGS = ("gzip", "zstd", "identity")
_UTF8 = frozenset({"", "utf-8", "utf8", "us-ascii"})
_CHINESE = frozenset({"gb18030", "gbk", "gb2312"})


@dataclass(frozen=True, slots=True)
class Admitted:
    """Events that may be stored. ``ignored``: names of columns that mean nothing here."""

    encoded: Encoded
    payload: bytes
    ignored: tuple[str, ...]
    batch_id: str | None  # as the body states it
    digest: str | None  # keyed, of the unpacked body; only where an id of the batch is stated

    @property
    def rows(self) -> int:
        """Rows of the body."""
        return self.encoded.rows_in


def decode_payload(payload: bytes, encoder: Encoder) -> Encoded:
    """Return what the door made of a record of the journal (see ``readers.payload``)."""
    return replay(payload, encoder)


def media_of(content_type: str | None) -> tuple[Media, str]:
    """Return the type of a body and its charset, lower case; a 415 problem for all others."""
    kind, *parameters = (part.strip().lower() for part in (content_type or "").split(";"))
    charset = ""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset":
            charset = value.strip().strip('"')
    media = _ALIASES.get(kind) or (Media(kind) if kind in frozenset(Media) else None)
    if media is None:
        raise _unsupported(f"Content-Type must be one of {', '.join(Media)}", "Content-Type")
    if media in (Media.JSON, Media.NDJSON) and charset not in _UTF8 | _CHINESE:
        raise _unsupported("charset must be utf-8 or gb18030", "Content-Type")
    return media, charset


def encoding_of(content_encoding: str | None) -> str:
    """Return how a body is packed: ``gzip``, ``zstd`` or ``identity``; a 415 problem for others."""
    named = [part.strip().lower() for part in (content_encoding or "").split(",")]
    packed = [name for name in named if name and name != "identity"]
    if len(packed) > MOST_ENCODINGS or any(name not in (*ENCODINGS, "x-gzip") for name in packed):
        raise _unsupported(f"Content-Encoding must be one of {', '.join(ENCODINGS)}", "encoding")
    return packed[0].removeprefix("x-") if packed else "identity"


def _unsupported(detail: str, what: str) -> Problem:
    # RFC 7694: a 415 for the coding says which codings are taken.
    headers = {"Accept-Encoding": ", ".join(ENCODINGS)} if what == "encoding" else None
    return Problem(
        415,
        "unsupported-media-type",
        detail=detail,
        detail_zh=detail.replace(" must be one of ", " 应为以下之一：").replace(
            " must be ", " 应为 "
        ),
        headers=headers,
    )


def unpack(body: bytes, encoding: str, most: int) -> bytes:
    """Return the body without its packing; a 413 problem beyond ``most`` bytes, 400 if damaged."""
    if encoding == "identity":
        return body
    try:
        return _gunzip(body, most) if encoding == "gzip" else _unzstd(body, most)
    except (zlib.error, EOFError, OSError, pa.ArrowException) as error:
        raise Problem(
            400,
            "bad-request",
            detail=f"the body is no complete {encoding} ({str(error)[:120]})",
            detail_zh=f"正文不是完整的 {encoding} 数据",
        ) from error


def _gunzip(body: bytes, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            part = member.decompress(rest, min(_PIECE, most + 1 - size))
            rest = member.unconsumed_tail or member.unused_data
            size += len(part)
            if size > most:
                raise _too_large(most)
            parts.append(part)
            if not part and not member.eof and not member.unconsumed_tail:
                raise EOFError("cut off")
    return b"".join(parts)


def _unzstd(body: bytes, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        while part := stream.read(_PIECE):
            size += len(part)
            if size > most:
                raise _too_large(most)
            parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> Problem:
    return Problem(
        413,
        "too-large",
        detail=f"unpacked, the body has more than {most} bytes; send fewer events at once",
        detail_zh=f"正文解压后超过 {most} 字节，请减少每次发送的事件",
        most_bytes=most,
    )


class Room:
    """Memory for bodies on their way in. For the event loop alone: it is not locked."""

    def __init__(self, most: int) -> None:
        self.left = most

    def take(self, size: int) -> None:
        """Reserve ``size`` bytes; a 429 problem if there is no room. :meth:`give` them back."""
        if size > self.left:
            raise Problem(
                429,
                "too-many-requests",
                detail="too many large bodies at once",
                detail_zh="同时到达的大正文过多",
                retry_after=1,
            )
        self.left -= size

    def give(self, size: int) -> None:
        """Return what was taken."""
        self.left += size


class Door:
    """Reads bodies in threads of its own.

    Small bodies have a thread to themselves: they need not wait behind large ones, and as reading
    them holds the interpreter's lock most of the time, more threads would only pass it around. A
    body of few bytes that turns out to hold much is put down there and read among the large ones.

    ``most_rows`` and ``most_unpacked`` bound one body, ``room`` all bodies held at once (bytes as
    sent).
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        most_rows: int = MOST_ROWS,
        most_unpacked: int = MOST_UNPACKED,
        room: int = 512 << 20,
        threads: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.room = Room(room)
        self._limits = Shape(most_rows, most_unpacked)
        self._few = Shape(
            min(most_rows, SMALL.most_rows),
            min(most_unpacked, SMALL.most_bytes),
            SMALL.most_messages,
        )
        self._decoders = Decoders()
        workers = threads or min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="door")
        self._small = ThreadPoolExecutor(1, thread_name_prefix="small door")

    async def take(
        self, body: bytes, media: Media, charset: str, encoding: str, *, named: bool
    ) -> Admitted:
        """Read a body; raises :class:`Problem`."""
        run = asyncio.get_running_loop().run_in_executor
        # Packed, a small body may hold a large one; so may Arrow, which packs inside, and lines of
        # next to nothing. How much they hold is counted before anything dear happens to them.
        if len(body) <= SMALL_BODY and encoding == "identity":
            small = partial(self._admit, body, media, charset, named=named, limits=self._few)
            try:
                return await run(self._small, small)
            except TooLarge:
                pass
        large = partial(self.read, body, media, charset, encoding, named=named)
        return await run(self._pool, large)

    def read(
        self,
        body: bytes,
        media: Media,
        charset: str = "",
        encoding: str = "identity",
        *,
        named: bool = True,
    ) -> Admitted:
        """Read a body in this thread; raises :class:`Problem`. ``named``: its batch has an id."""
        if not body:
            raise _empty()
        body = unpack(body, encoding, self._limits.most_bytes)
        try:
            return self._admit(body, media, charset, named=named, limits=self._limits)
        except TooLarge as error:
            raise Problem(413, "too-large", detail=str(error), **_chinese(error)) from error

    def _admit(
        self, body: bytes, media: Media, charset: str, *, named: bool, limits: Shape
    ) -> Admitted:
        """Read an unpacked body; raises :class:`TooLarge` beyond ``limits``, else ``Problem``."""
        if not body:
            raise _empty()
        try:
            raw, rejects, ignored, batch_id = self._rows(body, media, charset, limits)
            if len(raw) + rejects.num_rows == 0:
                raise _empty()
            encoded, payload = admit(raw, rejects, self.encoder)
        except TooLarge:
            raise
        except InputError as error:
            raise _unusable(str(error), error.zh) from error
        except pa.ArrowException as error:  # numbers beyond what a column's type may become
            raise _unusable(f"{PATH}: a column cannot be read", f"{PATH}：有列无法读取") from error
        if len(payload) > MOST_PAYLOAD_BYTES:
            raise _too_large(MOST_PAYLOAD_BYTES)
        # Keyed, so that a body of one row cannot be guessed from what is kept of it.
        digest = None
        if named or batch_id is not None:
            digest = self.encoder.pseudonyms.of(hashlib.sha256(body).hexdigest())
        return Admitted(encoded, payload, ignored, batch_id, digest)

    def _rows(
        self, body: bytes, media: Media, charset: str, limits: Shape
    ) -> tuple[RawBatch, pa.Table, tuple[str, ...], str | None]:
        if media in (Media.ARROW_STREAM, Media.ARROW_FILE):
            found = read_arrow(body, PATH, limits)
            return RawBatch(found.batch, PATH), REJECTS.empty_table(), found.ignored, None
        if charset in _CHINESE:
            body = _from_gb18030(body)
        batch_id = None
        objects: Objects
        if media is Media.JSON:
            objects, batch_id = read_array(
                body, PATH, limits, self.encoder.pseudonyms, self._decoders
            )
        else:
            objects = read_lines(body, PATH, limits, self.encoder.pseudonyms, self._decoders)
        return objects.batch(), objects.rejects.table(), tuple(objects.ignored), batch_id

    def close(self) -> None:
        """End the threads; what is being read is read to its end."""
        for pool in (self._small, self._pool):
            pool.shutdown(wait=True, cancel_futures=True)


def _from_gb18030(body: bytes) -> bytes:
    try:
        return body.decode("gb18030").encode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{PATH}: no GB18030 text at byte {error.start}",
            f"{PATH}：第 {error.start} 字节处不是 GB18030 文本",
        ) from error


def _empty() -> Problem:
    return _unusable("the body holds no events", "正文没有事件")


def _unusable(what: str, what_zh: str | None) -> Problem:
    errors = [{"where": "body", "what": what, "what_zh": what_zh or "", "rule": "unusable_body"}]
    chinese: dict[str, Any] = {"detail_zh": what_zh} if what_zh else {}
    return Problem(422, "invalid", detail=what, errors=errors, **chinese)


def _chinese(error: InputError) -> dict[str, Any]:
    return {"detail_zh": error.zh} if error.zh else {}

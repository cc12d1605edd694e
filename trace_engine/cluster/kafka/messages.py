"""Messages of a topic to events, many messages at once, each event with the message it came in.

What a message means depends on the message alone, never on those it was read with: readings differ
from one run to the next, and a replay must give the same findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.batch import EventBatch
from trace_engine.events.encode import Encoder
from trace_engine.events.raw import InputError, RawBatch, RejectList, raw_text
from trace_engine.events.schema import BY_NAME, REQUIRED, match_headers
from trace_engine.readers.arrow_ipc import Shape, read_arrow
from trace_engine.readers.lines import Block
from trace_engine.readers.ndjson import JsonBlocks

FORM_HEADER = "content-type"
COMMAND_HEADER = "trace-engine-command"
ADVANCE = "advance"

_FORMS = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/vnd.apache.arrow.stream": "arrow",
    **{form: form for form in ("json", "ndjson", "arrow")},
}
_ARROW_MARK = b"\xff\xff\xff\xff"  # how an Arrow IPC stream begins
ARROW_LIMITS = Shape(most_rows=1_000_000, most_bytes=256 << 20)  # of one message, unpacked
_IDENTITY = {name: name for name in BY_NAME}
_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_VALUE = msgspec.json.Decoder(msgspec.Raw)
_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])

Int64 = npt.NDArray[np.int64]
Headers = dict[str, str | bytes | None] | list[tuple[str, str | bytes | None]] | None


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message: where it stands, when it was written (µs UTC), what it holds and in what form.

    ``form`` is empty where no header says it; ``command`` is set for what is no event.
    """

    offset: int
    time: int
    value: bytes
    form: str = ""
    command: str = ""


@dataclass(slots=True)
class Events:
    """Events in order of their messages; ``message`` (shape ``(n,)``) is the index of each one's."""

    batch: EventBatch
    message: Int64
    rows: int  # rows in, events and rejects


@dataclass(slots=True)
class Decoded:
    """What a reading held, in order: events, and rejects as they go to their topic."""

    events: list[Events] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)


def form_of(headers: Headers) -> tuple[str, str]:
    """Return (form, command) by the headers of a message; an unknown content type is no form."""
    form = command = ""
    for name, value in headers.items() if isinstance(headers, dict) else headers or ():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
        if name.lower() == FORM_HEADER:
            form = _FORMS.get(text.partition(";")[0].strip().lower(), "")
        elif name.lower() == COMMAND_HEADER:
            command = text.strip().lower()
    return form, command


class MessageDecoder:
    """Decodes and encodes the messages of one partition. Not shared between threads.

    ``form`` is that of messages whose headers say none; ``auto`` goes by the first bytes.
    """

    def __init__(self, topic: str, partition: int, encoder: Encoder, form: str = "auto") -> None:
        self._where = {"topic": topic, "partition": partition}
        self._path = f"{topic}/{partition}"
        self._encoder = encoder
        self._form = "" if form == "auto" else form
        self._headers_of: dict[frozenset[str], dict[str, str] | InputError] = {}

    def decode(self, messages: Sequence[Incoming]) -> Decoded:
        """Return the events and the rejects of ``messages``, which are not empty and no commands."""
        done = Decoded()
        lines: list[bytes] = []
        owners: list[int] = []
        tables: list[tuple[int, pa.Table]] = []
        for index, message in enumerate(messages):
            value = message.value
            form = message.form or self._form
            if form == "arrow" or (not form and value.startswith(_ARROW_MARK)):
                self._lines(messages, lines, owners, done)
                table = self._table(messages, index, done)
                if table is None:
                    continue
                if tables and not tables[-1][1].schema.equals(table.schema):
                    self._tables(messages, tables, done)
                tables.append((index, table))
                continue
            self._tables(messages, tables, done)
            if value[:1] == b"{" and b"\n" not in value:
                lines.append(value)
                owners.append(index)
                continue
            try:
                found = _lines_of(value, form)
            except (msgspec.DecodeError, RecursionError) as error:
                self._refuse(messages, index, "bad_json", f"expected JSON ({error})", done)
                continue
            lines += found
            owners += [index] * len(found)
        self._lines(messages, lines, owners, done)
        self._tables(messages, tables, done)
        return done

    # ---- JSON ----------------------------------------------------------------------------------

    def _lines(
        self,
        messages: Sequence[Incoming],
        lines: list[bytes],
        owners: list[int],
        done: Decoded,
    ) -> None:
        """Decode the JSON objects gathered, one a line, and forget them."""
        if not lines:
            return
        rows = _rows_in_message(owners)
        kept = self._whole_objects(messages, lines, owners, rows, done)
        texts = [lines[i] for i in kept]
        owner = np.array(owners, np.int64)[kept]
        row = rows[kept]
        lines.clear()
        owners.clear()
        if not texts:
            return
        try:
            self._block(messages, texts, owner, row, _IDENTITY, done)
        except InputError:  # a key beside the canonical ones means the same column
            for start, stop, headers in self._runs(texts):
                part = slice(start, stop)
                if isinstance(headers, InputError):
                    for index in sorted(set(owner[part].tolist())):
                        self._refuse(messages, index, "bad_headers", str(headers), done)
                    continue
                self._block(messages, texts[part], owner[part], row[part], headers, done)

    def _whole_objects(
        self,
        messages: Sequence[Incoming],
        lines: list[bytes],
        owners: list[int],
        rows: Int64,
        done: Decoded,
    ) -> Int64:
        """Return the indices of lines that look like whole objects in UTF-8; refuse the others.

        A line that begins with ``{`` and ends with ``}`` cannot be read together with the next:
        the message before never spoils the one behind it.
        """
        plain = b"".join(lines)
        all_utf8 = plain.isascii() or _is_utf8(plain)
        kept = []
        for index, line in enumerate(lines):
            text = line.strip()
            if not all_utf8 and not _is_utf8(text):
                reason, detail = "undecodable", "expected UTF-8"
            elif not (text.startswith(b"{") and text.endswith(b"}")):
                reason, detail = "bad_json", "expected one JSON object"
            else:
                kept.append(index)
                continue
            self._reject(
                messages[owners[index]].offset, int(rows[index]), "", reason, detail,
                self._shown(text), done,
            )  # fmt: skip
        return np.array(kept, np.int64)

    def _block(
        self,
        messages: Sequence[Incoming],
        lines: list[bytes],
        owner: Int64,
        row: Int64,
        headers: dict[str, str],
        done: Decoded,
    ) -> None:
        refused = RejectList()
        block = Block(
            b"\n".join(lines) + b"\n", np.arange(len(lines)), np.arange(1, len(lines) + 1)
        )
        blocks = JsonBlocks(self._path, headers, refused, self._encoder.pseudonyms)
        batch, rows = blocks.parse(block)
        for reject in refused.table().to_pylist():
            line = reject["row"]
            detail = reject["detail"].partition(": ")[2]  # without the number of the line
            self._reject(
                messages[int(owner[line])].offset, int(row[line]), reject["column"],
                reject["reason"], detail, reject["raw"], done,
            )  # fmt: skip
        if len(rows):
            self._encode(messages, _without_empty(batch), owner[rows], row[rows], done)

    def _runs(self, lines: list[bytes]) -> Iterator[tuple[int, int, dict[str, str] | InputError]]:
        """Yield (start, stop, columns or why there are none) of lines that use the same headers."""
        found = [self._headers(line) for line in lines]
        start = 0
        for stop in range(1, len(lines) + 1):
            if stop == len(lines) or found[stop] is not found[start]:
                yield start, stop, found[start]
                start = stop

    def _headers(self, line: bytes) -> dict[str, str] | InputError:
        try:
            keys = frozenset(_RAW_OBJECT.decode(line))
        except (msgspec.DecodeError, RecursionError):
            return _IDENTITY  # refused with its reason when it is read
        known = self._headers_of.get(keys)
        if known is None:
            try:
                columns = match_headers(sorted(keys), "message").columns
                known = columns if any(k != v for k, v in columns.items()) else _IDENTITY
            except InputError as error:
                known = error if keys - set(_IDENTITY) else _IDENTITY
            if len(self._headers_of) > 1000:
                self._headers_of.clear()
            self._headers_of[keys] = known
        return known

    # ---- Arrow ---------------------------------------------------------------------------------

    def _table(self, messages: Sequence[Incoming], index: int, done: Decoded) -> pa.Table | None:
        """Return the rows of an Arrow IPC stream by canonical columns; None: refused."""
        try:
            batch = read_arrow(messages[index].value, "message", ARROW_LIMITS).batch
        except InputError as error:
            self._refuse(messages, index, "bad_arrow", str(error), done)
            return None
        return pa.Table.from_batches([batch])

    def _tables(
        self, messages: Sequence[Incoming], tables: list[tuple[int, pa.Table]], done: Decoded
    ) -> None:
        """Encode the tables gathered, all of one schema, and forget them."""
        if not tables:
            return
        lengths = [table.num_rows for _, table in tables]
        owner = np.repeat([index for index, _ in tables], lengths).astype(np.int64)
        row = np.concatenate([np.arange(1, n + 1) for n in lengths])
        batches = pa.concat_tables([t for _, t in tables]).combine_chunks().to_batches()
        single, tables[:] = list(tables), []
        try:
            for batch in batches:
                self._encode(messages, batch, owner, row, done)
        except InputError as error:
            if len(single) == 1:
                self._refuse(messages, single[0][0], "bad_headers", str(error), done)
                return
            for one in single:  # a type that can never be right may be that of one message only
                self._tables(messages, [one], done)

    # ---- events --------------------------------------------------------------------------------

    def _encode(
        self,
        messages: Sequence[Incoming],
        batch: pa.RecordBatch,
        owner: Int64,
        row: Int64,
        done: Decoded,
    ) -> None:
        """Encode rows; ``owner`` and ``row`` (shape ``(rows,)``) say where each stands."""
        encoded = self._encoder.encode(
            RawBatch(batch, self._path, rows=np.arange(batch.num_rows, dtype=np.int64))
        )
        for reject in encoded.rejects.to_pylist():
            at = reject["row"]
            self._reject(
                messages[int(owner[at])].offset, int(row[at]), reject["column"],
                reject["reason"], reject["detail"], reject["raw"], done,
            )  # fmt: skip
        events = encoded.batch
        if events.origin is None:
            raise AssertionError("the encoder names the row of every event")
        of_message = owner[events.origin]
        offsets = np.array([message.offset for message in messages], np.int64)
        events.origin = offsets[of_message]
        done.events.append(Events(events, of_message, encoded.rows_in))

    def _refuse(
        self, messages: Sequence[Incoming], index: int, reason: str, detail: str, done: Decoded
    ) -> None:
        """Refuse a whole message."""
        message = messages[index]
        self._reject(message.offset, None, "", reason, detail, self._shown(message.value), done)

    def _shown(self, value: bytes) -> str:
        return raw_text(value[:4000].decode("utf-8", "replace"), self._encoder.pseudonyms)

    def _reject(
        self,
        offset: int,
        row: int | None,
        column: str,
        reason: str,
        detail: str,
        raw: str | None,
        done: Decoded,
    ) -> None:
        found = {
            **self._where, "offset": offset, "row": row, "column": column, "reason": reason,
            "detail": self._encoder.pseudonyms.mask_inside(" ".join(detail.split())[:2000]),
            "raw": raw,
        }  # fmt: skip
        done.rejects.append(found)


def _lines_of(value: bytes, form: str) -> list[bytes]:
    """Return the events of a text message as one JSON text a line each."""
    text = value.removeprefix(b"\xef\xbb\xbf").strip()
    if form == "ndjson":
        return [line for line in text.splitlines() if line.strip()]
    if text.startswith(b"["):
        return [_one_line(raw) for raw in _RAW_ARRAY.decode(text)]
    if form == "json" or b"\n" not in text:
        return [_one_line(_RAW_VALUE.decode(text))]
    try:  # one object over several lines, or an object a line
        return [_one_line(_RAW_VALUE.decode(text))]
    except (msgspec.DecodeError, RecursionError):
        return [line for line in text.splitlines() if line.strip()]


def _one_line(raw: msgspec.Raw) -> bytes:
    # A line break inside a JSON string is always escaped: those left stand between values.
    return bytes(raw).replace(b"\r", b" ").replace(b"\n", b" ")


def _rows_in_message(owners: list[int]) -> Int64:
    """Return the 1-based row of each line in its message; lines of a message stand together."""
    owner = np.array(owners, np.int64)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.arange(len(owner)) - np.repeat(first, np.diff(first, append=len(owner))) + 1


def _without_empty(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return ``batch`` without columns that say nothing, but with all that are required."""
    kept = [
        name
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if column.null_count < len(column) or name in REQUIRED
    ]
    return batch.select(kept)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

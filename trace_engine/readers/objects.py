"""Events of strangers as JSON: an array of objects, or one object a line, already in memory.

As in files (``readers.ndjson``) a line that holds no object becomes a reject with its number, and
headers may be Chinese. Other than there no column is required of the whole: each event is judged
alone. Objects are decoded into the fields they are known to have, so that a sender cannot make up
columns without end, and their depth is bounded by the parser.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.events.masking import TEXT_COLUMNS
from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import InputError, RawBatch, RejectList, raw_text
from trace_engine.events.schema import COLUMNS, REQUIRED, match_headers, normalise_header
from trace_engine.readers.arrow_ipc import Shape, TooLarge
from trace_engine.readers.lines import Block, LineReader, guess_encoding

CHUNK = 1000  # events decoded at once: the interpreter's lock is held for about 2 ms
SAMPLE = 1 << 16  # bytes the encoding is guessed by
MOST_UNKNOWN = 32  # names without meaning that a decoder expects; objects with more are read slowly
MOST_KEY = 100  # characters of such a name
MOST_IGNORED = 100  # names without meaning that are told back
MOST_DECODERS = 8
MOST_KEYS = 1000  # of one object
OBJECTS_A_ROW, VALUES_A_ROW = 8, 100  # of an array: an event has some thirty values
LINES_A_ROW = 4  # lines for each row there may be, the blank ones counted: each takes memory

_NAME_OF = {
    normalise_header(alias): column.name
    for column in COLUMNS
    for alias in (column.name, *column.aliases)
}
_Scalar = str | int | float | bool | None
_Ignored = msgspec.Raw | msgspec.UnsetType
_EXACT = 1 << 53
_TRUTH = frozenset({"split_sale", "gift"})
_NUMBERS = frozenset({"pack_level", "quantity", "unit_price", "receivable", "temperature"})


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A body of JSON that names its batch."""

    events: list[msgspec.Raw]
    batch_id: str | None = None


_ENVELOPE = msgspec.json.Decoder(Envelope)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class Decoder:
    """Decodes objects that have (some of) certain keys, and no other, into columns."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = frozenset(keys)
        names = [canonical(key) for key in keys]
        self._event = msgspec.defstruct(
            "Event",
            [
                (f"f{i}", _Ignored, msgspec.UNSET) if name is None else (f"f{i}", _Scalar, None)
                for i, name in enumerate(names)
            ],
            rename={f"f{i}": key for i, key in enumerate(keys)},
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(self._event)
        self._known: list[tuple[str, attrgetter[Any]]] = []
        self._unknown: list[tuple[str, attrgetter[Any]]] = []
        for i, (key, name) in enumerate(zip(keys, names, strict=True)):
            kind = self._unknown if name is None else self._known
            kind.append((key, attrgetter(f"f{i}")))

    def columns(self, lines: bytes, count: int) -> tuple[dict[str, list[Any]], list[str]] | None:
        """Return the values by key of ``count`` lines, and the keys without meaning among them.

        None if the lines do not hold exactly so many such objects.
        """
        try:
            events = self._decoder.decode_lines(lines)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if len(events) != count:
            return None
        unknown = [
            key
            for key, getter in self._unknown
            if any(value is not msgspec.UNSET for value in map(getter, events))
        ]
        return {key: list(map(getter, events)) for key, getter in self._known}, unknown


def canonical(key: str) -> str | None:
    """Return the column that a key means, or None."""
    return _NAME_OF.get(normalise_header(key))


class Decoders:
    """Decoders for the objects seen last. Shared between threads."""

    def __init__(self) -> None:
        self._recent: list[Decoder] = []
        self._lock = threading.Lock()

    def find(self, keys: frozenset[str]) -> Decoder | None:
        """Return a decoder that knows all of ``keys``."""
        with self._lock:
            for decoder in self._recent:
                if keys <= decoder.keys:
                    return decoder
        return None

    def learn(self, keys: Sequence[str]) -> Decoder | None:
        """Return a decoder for exactly ``keys``; None where there are too many odd ones."""
        unknown = [key for key in keys if canonical(key) is None]
        if len(unknown) > MOST_UNKNOWN or any(len(key) > MOST_KEY for key in keys):
            return None
        try:
            decoder = Decoder(keys)
        except ValueError:  # a key with quotes or control characters
            return None
        with self._lock:
            self._recent = [decoder, *self._recent[: MOST_DECODERS - 1]]
        return decoder


class Objects:
    """The events of one body, gathered chunk by chunk."""

    def __init__(
        self, path: str, word: str, limits: Shape, pseudonyms: Pseudonyms, decoders: Decoders
    ) -> None:
        self._path = path
        self._word = word  # what the numbers in details count: "line" or "event"
        self._limits = limits
        self._pseudonyms = pseudonyms
        self._decoders = decoders
        self._decoder: Decoder | None = None
        self._keys: dict[str, str] = {}  # column -> key, of those that say something
        self._named: set[str] = set()  # keys met, as far as objects were looked at one by one
        self._chunks: list[tuple[int, dict[str, Any]]] = []  # rows and columns of each
        self._rows: list[npt.NDArray[np.int64]] = []
        self._seen = 0
        self.ignored: dict[str, None] = {}
        self.rejects = RejectList()

    def expect(self, count: int) -> None:
        """Raise :class:`TooLarge` if ``count`` more lines are too many, before any is looked at."""
        self._seen += count
        if self._seen > self._limits.most_rows:
            raise TooLarge(
                f"{self._path}: more than {self._limits.most_rows} events; send fewer at once",
                f"{self._path}：超过 {self._limits.most_rows} 条事件，请减少每次发送的事件",
            )

    def add(
        self, lines: Sequence[bytes], rows: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]
    ) -> None:
        """Take lines with their row numbers and the numbers shown in details.

        :meth:`expect` them first.
        """
        for start in range(0, len(lines), CHUNK):
            part = slice(start, start + CHUNK)
            self._add(lines[part], rows[part], numbers[part])

    def _add(
        self, lines: Sequence[bytes], rows: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]
    ) -> None:
        if self._decoder is None:
            keys = _keys_of(lines[0])
            self._named.update(keys)
            self._decoder = self._decoders.find(keys) if keys else None
        found = None
        if self._decoder is not None:
            found = self._decoder.columns(b"\n".join(lines), len(lines))
        if found is None:
            self._one_by_one(lines, rows, numbers)
            return
        columns, unknown = found
        self._ignore(unknown)
        self._keep(columns, rows)

    def _one_by_one(
        self, lines: Sequence[bytes], rows: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]
    ) -> None:
        records: list[dict[str, Any]] = []
        kept: list[int] = []
        for index, line in enumerate(lines):
            record, reason, detail = _record(line)
            if reason:
                raw = raw_text(line[:4000].decode("utf-8", "replace"), self._pseudonyms)
                said = f"{self._word} {int(numbers[index])}: {detail}"
                self.rejects.add(self._path, int(rows[index]), "", reason, said, raw)
            else:
                records.append(record)
                kept.append(index)
        keys = list(dict.fromkeys(key for record in records for key in record))
        self._named.update(keys)
        self._ignore(key for key in keys if canonical(key) is None)
        known = [key for key in keys if canonical(key) is not None]
        self._keep({key: [r.get(key) for r in records] for key in known}, rows[kept])
        before = [] if self._decoder is None else sorted(self._decoder.keys)
        if not set(before).issuperset(keys):
            self._decoder = self._decoders.learn(list(dict.fromkeys([*before, *keys])))

    def _ignore(self, keys: Iterator[str] | Sequence[str]) -> None:
        for key in keys:
            if len(self.ignored) <= MOST_IGNORED:
                self.ignored[raw_text(key[:MOST_KEY], self._pseudonyms)] = None

    def _keep(self, columns: dict[str, list[Any]], rows: npt.NDArray[np.int64]) -> None:
        arrays: dict[str, Any] = {}
        for key, values in columns.items():
            if values[0] is None and values.count(None) == len(values):
                continue
            name = canonical(key)
            assert name is not None
            if self._keys.setdefault(name, key) != key:
                raise InputError(
                    f"{self._path}: {self._keys[name]!r} and {key!r} both mean {name}; keep one",
                    f"{self._path}：{self._keys[name]} 与 {key} 都对应 {name}，请只保留一个",
                )
            if name in TEXT_COLUMNS:
                arrays[name] = _texts(values)
            else:
                arrays[name] = _strings(values) if isinstance(values[0], str) else values
        self._chunks.append((len(rows), arrays))
        self._rows.append(rows)

    def batch(self) -> RawBatch:
        """Return all rows. Raises :class:`InputError` where no event has any required column."""
        rows = np.concatenate(self._rows) if self._rows else np.empty(0, np.int64)
        if len(rows) and not {*self._keys, *map(canonical, self._named)} & set(REQUIRED):
            match_headers([*self._keys.values(), *self.ignored], self._path)  # says what is missing
        names = [column.name for column in COLUMNS if column.name in {*self._keys, *REQUIRED}]
        arrays = [self._joined(name) for name in names]
        return RawBatch(pa.RecordBatch.from_arrays(arrays, names), self._path, 1, rows)

    def _joined(self, name: str) -> pa.Array:
        chunks = [(n, arrays.get(name)) for n, arrays in self._chunks] or [(0, None)]
        if len(chunks) == 1 and isinstance(chunks[0][1], pa.Array):
            return chunks[0][1]
        if all(found is None or isinstance(found, pa.Array) for _, found in chunks):
            return pa.concat_arrays(
                [pa.nulls(n, pa.string()) if found is None else found for n, found in chunks]
            )
        values: list[Any] = []
        for n, found in chunks:
            if found is None:
                values += [None] * n
            else:
                values += found.to_pylist() if isinstance(found, pa.Array) else found
        return _loose(name, values)


def read_lines(
    body: bytes, path: str, limits: Shape, pseudonyms: Pseudonyms, decoders: Decoders
) -> Objects:
    """Read one JSON object a line. Raises :class:`InputError` for bytes that are no text."""
    objects = Objects(path, "line", limits, pseudonyms, decoders)
    most = limits.most_rows * LINES_A_ROW
    for block in _BodyLines(path, objects.rejects, pseudonyms, body, most).body_blocks():
        objects.expect(len(block))
        lines = block.data.split(b"\n")
        del lines[len(block) :]
        objects.add(lines, block.rows, block.lines)
    return objects


def read_array(
    body: bytes, path: str, limits: Shape, pseudonyms: Pseudonyms, decoders: Decoders
) -> tuple[Objects, str | None]:
    """Read ``[event, ...]`` or ``{"batch_id": ..., "events": [event, ...]}``; return also the id.

    Raises :class:`InputError` for anything else.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if b"\n" in body or b"\r" in body:  # outside of texts, where no line may break
        body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    batch_id = None
    most = limits.most_rows
    # Each value takes memory before there is anything to count.
    if body.count(b"{") > OBJECTS_A_ROW * most or body.count(b",") > VALUES_A_ROW * most:
        raise TooLarge(
            f"{path}: more than {most} events; send fewer at once",
            f"{path}：超过 {most} 条事件，请减少每次发送的事件",
        )
    try:
        if body[:64].lstrip()[:1] == b"{":
            envelope = _ENVELOPE.decode(body)
            events, batch_id = envelope.events, envelope.batch_id
        else:
            events = _ARRAY.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        said = "too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise InputError(
            f'{path}: expected [event, ...] or {{"batch_id": ..., "events": [event, ...]}} ({said})',
            f'{path}：应为 [事件, ...] 或 {{"batch_id": ..., "events": [事件, ...]}}（{said}）',
        ) from error
    objects = Objects(path, "event", limits, pseudonyms, decoders)
    objects.expect(len(events))
    for start in range(0, len(events), CHUNK):
        lines = [bytes(event) for event in events[start : start + CHUNK]]
        numbers = np.arange(start + 1, start + len(lines) + 1)
        objects.add(lines, numbers, numbers)
    return objects, batch_id


class _BodyLines(LineReader):
    """The lines of a body in memory."""

    def __init__(
        self, path: str, rejects: RejectList, pseudonyms: Pseudonyms, body: bytes, most: int
    ) -> None:
        super().__init__(path, rejects, pseudonyms, encoding=guess_encoding(body[:SAMPLE]))
        self._body = body
        self._most = most

    def body_blocks(self) -> Iterator[Block]:
        """Yield all lines. Raises :class:`InputError` where bytes cannot be read."""
        try:
            for data, long_line in self._lines():
                block = self._block(data, final=True)
                if block is not None and len(block):
                    yield block
                if long_line:
                    self._reject_long()
        except UnicodeError as error:
            raise InputError(
                f"{self._path}: cannot be read to its end, truncated or damaged ({error})",
                f"{self._path}：无法读完，内容被截断或损坏（{error}）",
            ) from error

    def _lines(self) -> Iterator[tuple[bytes, bool]]:
        if self._encoding == "utf-16" or b"\r" in self._body:
            for piece, long_line in self._pieces(io.BytesIO(self._body)):
                self._count(piece)
                yield piece, long_line
            return
        data = self._body.removeprefix(b"\xef\xbb\xbf")
        self._count(data)
        yield from self._without_long(data if data.endswith(b"\n") else data + b"\n")

    def _count(self, data: bytes) -> None:
        self._most -= data.count(b"\n")
        if self._most < 0:
            raise TooLarge(
                f"{self._path}: too many lines; send fewer events at once",
                f"{self._path}：行数过多，请减少每次发送的事件",
            )


def _keys_of(line: bytes) -> frozenset[str]:
    return frozenset(_record(line)[0])


def _record(line: bytes) -> tuple[dict[str, Any], str, str]:
    """Return an object; or why it is none, as reason and detail."""
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return {}, "bad_json", f"expected one JSON object ({error})"
    if not isinstance(record, dict):
        return {}, "bad_json", f"expected a JSON object, found {type(record).__name__}"
    if len(record) > MOST_KEYS:
        return {}, "bad_json", f"an object of {len(record)} keys, at most {MOST_KEYS} are read"
    for key, value in record.items():
        if isinstance(value, (dict, list)) and canonical(key) is not None:
            return {}, "nested_value", f"{canonical(key)} holds several values, expected one"
    return record, "", ""


def _strings(values: list[Any]) -> pa.Array | list[Any]:
    """Return texts as a column; unchanged if some value is no text."""
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return values


def _texts(values: list[Any]) -> pa.Array:
    found = _strings(values)
    if isinstance(found, pa.Array):
        return found
    return pa.array(list(map(_text, values)), pa.string())


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _loose(name: str, values: list[Any]) -> pa.Array:
    """Return a column that may be numbers, truth values or text: as text unless all are alike."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str}:
        return pa.array(values, pa.string())
    alike = (name in _NUMBERS and kinds <= {int, float}) or (name in _TRUTH and kinds == {bool})
    if alike:
        # Left to find the type itself, pyarrow looks on disk for dateutil, at each call.
        kind = pa.bool_() if bool in kinds else pa.float64() if float in kinds else pa.int64()
        try:
            found = pa.array(values, kind)
        except (pa.ArrowInvalid, OverflowError):  # numbers that no column of numbers holds
            found = None
        if found is not None and _is_moderate(found):
            return found
    return pa.array(list(map(_text, values)), pa.string())


def _is_moderate(array: pa.Array) -> bool:
    """Return whether whole numbers are none that a float would round."""
    if not pa.types.is_integer(array.type):
        return True
    bounds = pc.min_max(array)
    return bool(bounds["min"].as_py() > -_EXACT and bounds["max"].as_py() < _EXACT)

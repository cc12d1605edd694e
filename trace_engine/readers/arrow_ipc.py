"""Events of strangers as Arrow IPC (stream or file), checked before a single value is read.

What the messages say of themselves is not believed: rows, columns, sizes after decompression and
the texts that dictionaries and views stand for are counted against limits first; then every array
is validated in full, so that no kernel reads outside its memory. Columns that mean nothing here are
never decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.events.raw import InputError
from trace_engine.events.schema import match_headers
from trace_engine.events.texts import is_text, text_column, validity

FILE_MAGIC = b"ARROW1\0\0"
_END = b"\xff\xff\xff\xff\0\0\0\0"
MOST_COLUMNS = 1000
MOST_MESSAGES = 20_000


class TooLarge(InputError):  # noqa: N818 - says what is the case
    """More rows or bytes than one delivery may have."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Limits of one delivery: rows, bytes after decompression, and messages of Arrow."""

    most_rows: int
    most_bytes: int
    most_messages: int = MOST_MESSAGES


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of a delivery by canonical names, and the names that mean nothing here."""

    batch: pa.RecordBatch
    ignored: tuple[str, ...]


def read_arrow(body: bytes, path: str, limits: Shape) -> Columns:
    """Return the rows of an Arrow stream or file.

    Raises :class:`TooLarge` beyond the limits, and :class:`InputError` for anything else that
    cannot be used.
    """
    # A file is a stream between two marks; its footer, which could point anywhere, is not needed.
    start = len(FILE_MAGIC) if body.startswith(FILE_MAGIC) else 0
    data = pa.py_buffer(body).slice(start)
    try:
        _weigh(data, path, limits, is_file=start > 0)
        return _read(data, path, limits)
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(
            f"{path}: no complete Arrow IPC stream or file ({said})",
            f"{path}：不是完整的 Arrow IPC 流或文件（{said}）",
        ) from error


def _read(data: pa.Buffer, path: str, limits: Shape) -> Columns:
    with pa.ipc.open_stream(pa.BufferReader(data)) as reader:
        names = reader.schema.names
        for kind in reader.schema.types:
            value = kind.value_type if pa.types.is_dictionary(kind) else kind
            if pa.types.is_timestamp(value):
                _ = value.tz  # no UTF-8 raises here, not where somebody looks at it first
    if len(names) > MOST_COLUMNS:
        raise TooLarge(f"{path}: {len(names)} columns, at most {MOST_COLUMNS} are read")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(
            f"{path}: columns that stand twice: {', '.join(twice[:5])}",
            f"{path}：重复的列：{'、'.join(twice[:5])}",
        )
    match = match_headers(names, path)
    canonical = {header: name for name, header in match.columns.items()}
    wanted = [index for index, name in enumerate(names) if name in canonical]
    options = pa.ipc.IpcReadOptions(
        use_threads=False,
        included_fields=wanted,
        ensure_alignment=pa.ipc.Alignment.DataTypeSpecific,
    )
    with pa.ipc.open_stream(pa.BufferReader(data), options=options) as reader:
        schema = reader.schema
        batches = [_checked(batch, path, limits) for batch in reader]
    if len(batches) != 1:
        joined = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
        batches = joined or [pa.RecordBatch.from_pylist([], schema)]
    batch = batches[0].rename_columns([canonical[name] for name in schema.names])
    return Columns(batch, match.ignored)


# Types of which a row is what its buffers hold for it: neither nested nor standing for more.
_FLAT = frozenset(
    {
        pa.lib.Type_STRING, pa.lib.Type_LARGE_STRING, pa.lib.Type_TIMESTAMP, pa.lib.Type_DOUBLE,
        pa.lib.Type_INT32, pa.lib.Type_INT64, pa.lib.Type_BOOL,
    }
)  # fmt: skip

# Bytes of what the second buffer of a type of texts holds for each of them.
_OFFSETS = {
    pa.lib.Type_STRING: 4,
    pa.lib.Type_BINARY: 4,
    pa.lib.Type_LARGE_STRING: 8,
    pa.lib.Type_LARGE_BINARY: 8,
    pa.lib.Type_STRING_VIEW: 16,
    pa.lib.Type_BINARY_VIEW: 16,
}


def _checked(batch: pa.RecordBatch, path: str, limits: Shape) -> pa.RecordBatch:
    try:
        columns = batch.columns
    except KeyError as error:  # intervals of SQL, which pyarrow has no class for
        raise InputError(
            f"{path}: a column has a type that is not known", f"{path}：有列的类型未知"
        ) from error
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        _name_damaged(batch, path)
        raise
    texts = 0
    for place, array in enumerate(columns):
        if not _is_even(array):
            name = batch.schema.names[place]
            raise InputError(
                f"{path}: column {name} is damaged: a buffer ends within a value",
                f"{path}：列 {name} 已损坏：缓冲区在值的中间结束",
            )
        kind = array.type
        if kind.id in _FLAT:
            continue
        if pa.types.is_nested(kind):
            name = batch.schema.names[place]
            raise InputError(
                f"{path}: column {name} has type {kind}; expected single values",
                f"{path}：列 {name} 的类型为 {kind}，应为单个值",
            )
        texts += _text_bytes(array)
        if texts > limits.most_bytes:
            raise _too_many_bytes(path, limits)
    return batch


def _name_damaged(batch: pa.RecordBatch, path: str) -> None:
    """Raise ``InputError`` for the first column that is not valid."""
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: column {name} is damaged: {error}") from error


def _is_even(array: pa.Array) -> bool:
    """Return whether buffers of numbers hold whole ones: Arrow reads others, numpy does not."""
    kind, buffers = array.type, array.buffers()
    if kind.id == pa.lib.Type_DICTIONARY:
        return _is_even(array.indices) and _is_even(array.dictionary)
    if len(buffers) < 2 or buffers[1] is None:
        return True
    width = _OFFSETS.get(kind.id)
    if width is None:
        if not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind)):
            return True
        width = max(kind.bit_width // 8, 1)  # 1: bits
    return int(buffers[1].size) % width == 0


def _text_bytes(array: pa.Array) -> int:
    """Return the bytes a column has when each row has a text of its own; 0 where it has already."""
    if pa.types.is_dictionary(array.type):
        if not _is_plain_text(array.type.value_type):
            return len(array) * 32  # numbers and times, never longer as text
        lengths = _lengths(array.dictionary)
        if not len(lengths) or int(lengths.max()) <= 64:
            return len(array) * 64
        indices = array.indices.drop_null().cast(pa.int64()).to_numpy(zero_copy_only=False)
        return int(lengths[indices].sum())
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        return int(_lengths(array).sum())
    return 0


def _is_plain_text(kind: pa.DataType) -> bool:
    return is_text(kind) and not pa.types.is_dictionary(kind)


def _lengths(array: pa.Array) -> npt.NDArray[np.int64]:
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        views = array.buffers()[1]
        if views is None:
            return np.zeros(len(array), np.int64)
        # A view is 16 bytes; the first four are the length of the text.
        first = np.frombuffer(views, np.int32)[::4]
        lengths = first[array.offset : array.offset + len(array)].astype(np.int64)
        valid = validity(array)
        return np.where(valid, lengths, 0) if len(valid) else lengths
    column = text_column(array)
    found = np.diff(column.offsets)
    return np.where(column.valid, found, 0) if len(column.valid) else found


def _too_many_bytes(path: str, limits: Shape) -> TooLarge:
    return TooLarge(
        f"{path}: more than {limits.most_bytes} bytes when unpacked; send fewer events at once",
        f"{path}：解压后超过 {limits.most_bytes} 字节，请减少每次发送的事件",
    )


def _weigh(data: pa.Buffer, path: str, limits: Shape, *, is_file: bool) -> None:
    """Refuse what its own messages say is too much, before anything is unpacked."""
    rows = unpacked = 0
    source = pa.BufferReader(data)
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(source)):
        if number > limits.most_messages:
            raise TooLarge(f"{path}: more than {limits.most_messages} record batches")
        if message.type == "schema":
            continue
        try:
            length, size = _Header(message.metadata).weight(message.body)
        except (struct.error, ValueError, IndexError) as error:
            raise InputError(f"{path}: message {number} is damaged: {error}") from error
        unpacked += size
        if message.type == "record batch":
            rows += length
        if rows > limits.most_rows:
            raise TooLarge(
                f"{path}: more than {limits.most_rows} rows; send fewer events at once",
                f"{path}：超过 {limits.most_rows} 行，请减少每次发送的事件",
            )
        if unpacked > limits.most_bytes:
            raise _too_many_bytes(path, limits)
    end = source.tell()
    # Cut off between two batches, a stream still reads well: only its mark tells that it is whole.
    if bytes(data[max(0, end - len(_END)) : end]) != _END:
        raise InputError(
            f"{path}: the Arrow stream has no mark at its end: it is truncated",
            f"{path}：Arrow 流缺少结束标记，内容被截断",
        )
    if bytes(data[end:]) if not is_file else not bytes(data[end:]).endswith(FILE_MAGIC[:6]):
        raise InputError(
            f"{path}: {data.size - end} bytes stand behind the end of the Arrow stream",
            f"{path}：Arrow 流结束后还有 {data.size - end} 字节",
        )


class _Header:
    """The metadata of one message, a flatbuffer (format/Message.fbs of Apache Arrow)."""

    _BATCH, _DICTIONARY = 3, 2  # MessageHeader

    def __init__(self, metadata: pa.Buffer) -> None:
        self._bytes = metadata.to_pybytes()

    def weight(self, body: pa.Buffer | None) -> tuple[int, int]:
        """Return rows and bytes when unpacked of a record batch or a dictionary."""
        message = self._follow(0)
        kind = self._number("<B", self._place(message, 1))
        batch = self._follow(self._required(message, 2))
        if kind == self._DICTIONARY:
            batch = self._follow(self._required(batch, 1))
        elif kind != self._BATCH:
            raise ValueError(f"unexpected kind {kind}")
        rows = self._number("<q", self._place(batch, 0))
        if rows < 0:
            raise ValueError("a negative number of rows")
        if self._place(batch, 3) is None or body is None:
            return rows, 0 if body is None else body.size
        return rows, sum(self._unpacked_sizes(batch, body))

    def _unpacked_sizes(self, batch: int, body: pa.Buffer) -> Iterator[int]:
        """Yield what each packed buffer says its size is; -1 stands for "not packed"."""
        place = self._place(batch, 2)
        if place is None:
            return
        vector = self._follow(place)
        count = self._number("<I", vector)
        view = memoryview(body)
        spans: Sequence[tuple[int, int]] = [
            struct.unpack_from("<qq", self._bytes, vector + 4 + 16 * i) for i in range(count)
        ]
        for offset, length in spans:
            if offset < 0 or length < 0 or offset + length > len(view):
                raise ValueError("a buffer outside the message")
            if length >= 8:
                (size,) = struct.unpack_from("<q", view, offset)
                if size < -1:
                    raise ValueError("a buffer of negative size")
                yield length - 8 if size == -1 else size

    def _place(self, table: int, field: int) -> int | None:
        vtable = table - self._number("<i", table)
        if vtable < 0:
            raise ValueError("a table outside the message")
        at = 4 + 2 * field
        if at + 2 > self._number("<H", vtable):
            return None
        offset = self._number("<H", vtable + at)
        return table + offset if offset else None

    def _required(self, table: int, field: int) -> int:
        place = self._place(table, field)
        if place is None:
            raise ValueError("a message without its header")
        return place

    def _follow(self, place: int) -> int:
        return place + self._number("<I", place)

    def _number(self, form: str, place: int | None) -> int:
        if place is None:
            return 0
        number: int = struct.unpack_from(form, self._bytes, place)[0]
        return number

"""Arrow text columns as the kernels see them, and a table that turns texts into numbers.

Kernels take one shape only, whatever Arrow type a column has (each further array type would be
compiled anew): ``offsets`` int64 ``(n + 1,)``, ``data`` read-only bytes, ``valid`` ``(n,)`` bool or
empty where nothing is null. A dictionary column is its values in that shape plus ``indices``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.core.kernel import kernel
from trace_engine.events.hashing import hash_bytes

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

ALL_VALID: Bool = np.empty(0, np.bool_)
RECENT = 4  # dictionaries whose numbers are kept
MAXIMUM_TEXTS = 1 << 21  # a table that grows beyond is started anew (memory stays bounded)


@dataclass(slots=True)
class TextColumn:
    """A text column of ``n`` rows; ``values`` has ``n`` texts, or those of the dictionary."""

    offsets: Int64
    data: npt.NDArray[np.uint8]
    valid: Bool
    indices: Int32 | None = None  # (n,), -1 for null; None: the values are the rows

    @property
    def values(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    def is_ascii(self) -> bool:
        """Return whether all bytes are below 128."""
        part = self.data[self.offsets[0] : self.offsets[-1]]
        return len(part) == 0 or int(part.max()) < 128

    def text(self, value: int) -> str:
        """Return text ``value``; bytes that are no UTF-8 appear as escapes."""
        part = self.data[self.offsets[value] : self.offsets[value + 1]]
        return part.tobytes().decode(errors="backslashreplace")


# Numbers of types: comparing them costs a tenth of what comparing types does, and a small delivery
# is asked dozens of times.
_DICTIONARY, _WIDE, _VIEW = (
    pa.lib.Type_DICTIONARY,
    pa.lib.Type_LARGE_STRING,
    pa.lib.Type_STRING_VIEW,
)
_TEXTS = frozenset({pa.lib.Type_STRING, _WIDE, _VIEW})
_INDICES: dict[int, type[np.generic]] = {
    pa.lib.Type_INT8: np.int8,
    pa.lib.Type_INT16: np.int16,
    pa.lib.Type_INT32: np.int32,
    pa.lib.Type_INT64: np.int64,
    pa.lib.Type_UINT8: np.uint8,
    pa.lib.Type_UINT16: np.uint16,
    pa.lib.Type_UINT32: np.uint32,
    pa.lib.Type_UINT64: np.uint64,
}


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text or a dictionary of text."""
    number = kind.id
    if number == _DICTIONARY:
        return is_text(kind.value_type)
    return number in _TEXTS


def validity(array: pa.Array) -> Bool:
    """Return which rows are not null, shape ``(n,)``; empty where all are."""
    if array.null_count == 0:
        return ALL_VALID
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    first, stop = array.offset, array.offset + len(array)
    part = np.unpackbits(bits[first // 8 : (stop + 7) // 8], bitorder="little")
    return part[first % 8 : first % 8 + len(array)].view(np.bool_)


class _Memory:
    """An Arrow buffer as numpy takes it in."""

    def __init__(self, buffer: pa.Buffer, dtype: Any) -> None:
        self._buffer = buffer  # lives as long as the array does
        kind = np.dtype(dtype)
        self.__array_interface__ = {
            "version": 3,
            "typestr": kind.str,
            "shape": (buffer.size // kind.itemsize,),
            "data": (buffer.address, False),
        }


def _writable(buffer: pa.Buffer, dtype: Any) -> npt.NDArray[Any]:
    """Return a buffer without copying as an array that calls itself writable; nobody may write.

    To a kernel a read-only array is another type, and it would be compiled for each.
    """
    array: npt.NDArray[Any] = np.asarray(_Memory(buffer, dtype))
    return array


def text_column(array: pa.Array) -> TextColumn:
    """Return a text array (string, large_string, string_view, dictionary of these) for kernels."""
    number = array.type.id
    if number == _DICTIONARY:
        column = text_column(array.dictionary)
        indices = array.indices
        valid = validity(indices)
        buffer = indices.buffers()[1]
        if buffer is None:
            column.indices = np.full(len(indices), -1, np.int32)
            return column
        kind = _INDICES[indices.type.id]
        numbers = _writable(buffer, kind)[indices.offset : indices.offset + len(indices)]
        if kind is not np.int32:
            numbers = numbers.astype(np.int32)
        column.indices = np.where(valid, numbers, np.int32(-1)) if len(valid) else numbers
        return column
    if number == _VIEW:
        array = array.cast(pa.large_string())
    wide = number in (_WIDE, _VIEW)
    _, offsets_buffer, data_buffer = array.buffers()
    if len(array) == 0 or offsets_buffer is None:
        offsets = np.zeros(len(array) + 1, np.int64)
    else:
        offsets = np.frombuffer(offsets_buffer, np.int64 if wide else np.int32)
        # astype copies, so that kernels always see a writable int64 array
        offsets = offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", np.uint8)
    if data.flags.writeable:
        data.flags.writeable = False
    return TextColumn(offsets, data, validity(array))


@kernel
def _find_texts(
    offsets: Int64,
    data: npt.NDArray[np.uint8],
    valid: Bool,
    first: int,
    count: int,
    slots: Int32,
    hashes: npt.NDArray[np.uint64],
    starts: Int64,
    arena: npt.NDArray[np.uint8],
    out: Int32,
) -> tuple[int, int]:
    """Set the numbers of texts from row ``first`` on, without outer blanks; -1 for null or blank.

    ``slots`` is open addressing by hash (-1 empty); text ``k`` of the ``count`` known ones is
    ``arena[starts[k]:starts[k+1]]``. What is not known is entered. Returns the row at which there
    was no room to enter it (or the number of rows), and how many texts are known now.
    """
    mask = np.uint64(len(slots) - 1)
    before = -1  # row whose text equals that of the row before
    for row in range(first, len(offsets) - 1):
        out[row] = -1
        if len(valid) > 0 and not valid[row]:
            continue
        start = offsets[row]
        end = offsets[row + 1]
        while start < end and data[start] <= 32:
            start += 1
        while start < end and data[end - 1] <= 32:
            end -= 1
        length = end - start
        if length == 0:
            continue
        # Rows of one bill stand together: mostly the text is that of the row before.
        if before >= 0 and offsets[before + 1] - offsets[before] == length:
            other = offsets[before]
            same = True
            for k in range(length):
                if data[start + k] != data[other + k]:
                    same = False
                    break
            if same:
                out[row] = out[before]
                continue
        h = hash_bytes(data, np.uint64(start), np.uint64(end))
        slot = h & mask
        found = np.int32(-1)
        while slots[slot] >= 0:
            number = int(slots[slot])
            if hashes[number] == h and starts[number + 1] - starts[number] == length:
                same = True
                at = starts[number]
                for k in range(length):
                    if data[start + k] != arena[at + k]:
                        same = False
                        break
                if same:
                    found = np.int32(number)
                    break
            slot = (slot + np.uint64(1)) & mask
        if found < 0:
            at = starts[count]
            if count == len(hashes) or 2 * (count + 1) > len(slots) or at + length > len(arena):
                return row, count
            for k in range(length):
                arena[at + k] = data[start + k]
            starts[count + 1] = at + length
            hashes[count] = h
            found = np.int32(count)
            slots[slot] = found
            count += 1
        out[row] = found
        before = row
    return len(offsets) - 1, count


@kernel
def _enter_slots(slots: Int32, hashes: npt.NDArray[np.uint64], count: int) -> None:
    """Fill ``slots``, all of them empty, with the first ``count`` texts by their hashes."""
    mask = np.uint64(len(slots) - 1)
    for number in range(count):
        slot = hashes[number] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = np.int32(number)


class TextTable:
    """Texts seen so far, each with a number of the caller's: interned id, day, price, ...

    ``resolve`` gives the payload (int64) of new texts, once for each distinct text. Texts compare
    by their bytes without outer blanks, so two different texts never share a payload. Not shared
    between threads.
    """

    def __init__(self, resolve: Callable[[Sequence[str]], Int64]) -> None:
        self._resolve = resolve
        self._clear()

    def _clear(self) -> None:
        self._recent: list[tuple[TextColumn, Int32]] = []
        self._count = 0
        self._slots = np.full(1024, -1, np.int32)
        self._hashes = np.zeros(512, np.uint64)
        self._starts = np.zeros(513, np.int64)
        self._arena = np.zeros(8192, np.uint8)
        self._payload = np.zeros(512, np.int64)

    def __len__(self) -> int:
        return self._count

    def payload(
        self,
        column: TextColumn,
        missing: int,
        dtype: Any = np.int64,
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """Return the payload of every row (dtype ``dtype``), ``missing`` for null or blank.

        It is written to ``out`` (``(n,)``, of that dtype) if given.
        """
        return self._spread(self._numbers(column), column, missing, dtype, out)

    def _spread(
        self,
        numbers: Int32,
        column: TextColumn,
        missing: int,
        dtype: Any,
        out: npt.NDArray[Any] | None,
    ) -> npt.NDArray[Any]:
        if column.indices is None and out is not None:
            values = out
        else:
            values = np.empty(len(numbers), dtype)
        _spread(self._payload, numbers, values.dtype.type(missing), values)
        return gather(values, column.indices, missing, out)

    def payload_and_hash(
        self,
        column: TextColumn,
        missing: int,
        dtype: Any,
        out: npt.NDArray[Any] | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint64]]:
        """Return payloads as :meth:`payload` does, and the hash of each row's text (0 missing)."""
        numbers = self._numbers(column)
        hashes = gather(self._hashes, numbers, 0)
        values = self._spread(numbers, column, missing, dtype, out)
        return values, gather(hashes, column.indices, 0)

    def _numbers(self, column: TextColumn) -> Int32:
        if column.indices is None:
            return self._look_up(column)
        # The batches of a row group carry equal dictionaries: comparing is cheaper than looking up.
        for known, numbers in self._recent:
            if _same_texts(known, column):
                return numbers
        numbers = self._look_up(column)
        self._recent = [(column, numbers), *self._recent[: RECENT - 1]]
        return numbers

    def _look_up(self, column: TextColumn) -> Int32:
        out = np.empty(column.values, np.int32)
        if self._count > MAXIMUM_TEXTS:
            self._clear()
        known, row = self._count, 0
        try:
            while True:
                with np.errstate(over="ignore"):  # hashes wrap around, felt only if not compiled
                    row, self._count = _find_texts(
                        column.offsets, column.data, column.valid, row, self._count, self._slots,
                        self._hashes, self._starts, self._arena, out,
                    )  # fmt: skip
                if row == column.values:
                    break
                self._grow(int(column.offsets[row + 1] - column.offsets[row]))
            if self._count > known:
                self._payload[known : self._count] = self._resolve(self._texts(known))
        except BaseException:
            self._clear()  # texts without a payload must not be found
            raise
        return out

    def _grow(self, length: int) -> None:
        """Make room for another text of up to ``length`` bytes, and for as many as there are."""
        count, used = self._count, int(self._starts[self._count])
        if count == len(self._payload):
            size = 2 * count
            self._payload = _grown(self._payload, size)
            self._hashes = _grown(self._hashes, size)
            self._starts = _grown(self._starts, size + 1)
        if used + length > len(self._arena):
            self._arena = _grown(self._arena, 1 << (used + length).bit_length())
        if 2 * (count + 1) > len(self._slots):
            self._slots = np.full(4 * len(self._slots), -1, np.int32)
            _enter_slots(self._slots, self._hashes, count)

    def _texts(self, first: int) -> list[str]:
        """Return the texts from number ``first`` on; bytes that are no UTF-8 appear as escapes."""
        bounds = self._starts[first : self._count + 1]
        data = self._arena[bounds[0] : bounds[-1]].tobytes()
        ends = (bounds - bounds[0]).tolist()
        return [data[start:end].decode(errors="backslashreplace") for start, end in pairwise(ends)]


def _same_texts(first: TextColumn, second: TextColumn) -> bool:
    """Return whether two dictionaries hold the same texts in the same order."""
    if first.values != second.values or len(first.valid) or len(second.valid):
        return False
    return bool(
        np.array_equal(first.offsets, second.offsets)
        and np.array_equal(
            first.data[first.offsets[0] : first.offsets[-1]],
            second.data[second.offsets[0] : second.offsets[-1]],
        )
    )


def _grown(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    out = np.zeros(size, array.dtype)
    out[: len(array)] = array
    return out


@kernel
def _spread(table: npt.NDArray[Any], indices: Int32, missing: Any, out: npt.NDArray[Any]) -> None:
    for i in range(len(indices)):
        at = indices[i]
        if at < 0:
            out[i] = missing
        else:
            out[i] = table[np.uint64(at)]


def gather(
    values: npt.NDArray[Any],
    indices: Int32 | None,
    missing: int,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Spread what dictionary values stand for over rows (below 0: ``missing``), into ``out`` if given.

    Without indices the values are the rows.
    """
    if indices is None:
        if out is None or out is values:
            return values
        out[:] = values
        return out
    if out is None:
        out = np.empty(len(indices), values.dtype)
    _spread(values, indices, values.dtype.type(missing), out)
    return out

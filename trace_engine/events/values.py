"""Arrow columns of loose types to numbers: times, days, fen, counts, truth values.

Every function returns int64 of shape ``(n,)`` with MISSING_TIME for null and ``parsing.BAD`` for
what cannot be read; a column of a type that can never be right raises :class:`InputError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.core.kernel import kernel
from trace_engine.events.batch import DAY, MISSING_TIME
from trace_engine.events.parsing import (
    BAD,
    SHANGHAI_OFFSET,
    parse_bool,
    parse_date,
    parse_fen,
    parse_times,
    parse_whole,
)
from trace_engine.events.raw import InputError
from trace_engine.events.texts import TextTable, gather, is_text, text_column, validity

Int64 = npt.NDArray[np.int64]

_NOWHERE: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MILLI = 1000
_MISSING = np.int64(MISSING_TIME)
_BAD = np.int64(BAD)
# Beyond these no value is right, and arithmetic on it could overflow: it is cut to them.
_FARTHEST = 1 << 52
_FARTHEST_TIME = 1 << 60  # µs, some 36 000 years


def plain_numbers(array: pa.Array) -> npt.NDArray[Any]:
    """Return the values of a fixed-width array as numpy without copying; nulls hold anything."""
    dtype = array.type.to_pandas_dtype() if not pa.types.is_temporal(array.type) else np.int64
    if pa.types.is_date32(array.type):
        dtype = np.int32
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype)[array.offset : array.offset + len(array)]


def _with_nulls(values: Int64, array: pa.Array, out: Int64 | None = None) -> Int64:
    """Put MISSING_TIME where ``array`` is null; always a copy that may be written to."""
    if out is None:
        out = np.empty(len(values), np.int64)
    out[:] = values
    valid = validity(array)
    if len(valid):
        np.copyto(out, _MISSING, where=~valid)
    return out


def _tabled(parse: Callable[[str], int]) -> TextTable:
    def resolve(texts: Sequence[str]) -> Int64:
        return np.fromiter((parse(text) for text in texts), np.int64, len(texts))

    return TextTable(resolve)


def _parse_day(text: str) -> int:
    """Pack a date as 2 × day + (1 if only a month was given), or BAD."""
    found = parse_date(text)
    return BAD if found is None else 2 * found[0] + found[1]


def _parse_milli(text: str) -> int:
    """Read a decimal number as thousandths, or BAD."""
    fen = parse_fen(text + "0") if "." in text else parse_fen(text)
    return BAD if fen == BAD else fen * 10


def wrong_type(name: str, found: pa.DataType, expected: str) -> InputError:
    """Return the error for a column whose type can never be right."""
    return InputError(
        f"column {name} has type {found}; expected {expected}",
        f"列 {name} 的类型为 {found}，应为 {expected}",
    )


def as_text(array: pa.Array, name: str) -> pa.Array:
    """Return a column as text (string, large_string or a dictionary of it).

    Whole numbers become their digits. Fractions are refused: a code that went through a float has
    lost digits.
    """
    kind = array.type
    if is_text(kind):
        return array
    if pa.types.is_integer(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.string())
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return array.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return array.cast(pa.large_string())
        except pa.ArrowInvalid as error:
            raise wrong_type(name, kind, "UTF-8 text") from error
    if pa.types.is_floating(kind) and name not in ("code", "parent_code"):
        try:
            return array.cast(pa.int64()).cast(pa.string())
        except pa.ArrowInvalid as error:
            raise wrong_type(name, kind, "text (these numbers have fractions)") from error
    raise wrong_type(name, kind, "text")


class ValueReader:
    """Reads columns of values; keeps what each distinct text means. Not shared between threads."""

    def __init__(self) -> None:
        self._days = _tabled(_parse_day)
        self._fen = _tabled(parse_fen)
        self._whole = _tabled(parse_whole)
        self._bool = _tabled(parse_bool)
        self._milli = _tabled(_parse_milli)

    def times(self, array: pa.Array, name: str, out: Int64 | None = None) -> Int64:
        """Return µs of Shanghai wall clock, in ``out`` (``(n,)``) if given."""
        kind = array.type
        if pa.types.is_timestamp(kind):
            values = plain_numbers(array)
            per_second = _PER_SECOND[kind.unit]
            if per_second < 1_000_000:
                factor = 1_000_000 // per_second
                values = (
                    np.clip(values, -_FARTHEST_TIME // factor, _FARTHEST_TIME // factor) * factor
                )
            elif per_second > 1_000_000:
                values = values // (per_second // 1_000_000)
            if kind.tz is not None:
                values = np.clip(values, -_FARTHEST_TIME, _FARTHEST_TIME) + SHANGHAI_OFFSET
            return _with_nulls(values, array, out)
        if pa.types.is_date32(kind):
            return _with_nulls(plain_numbers(array).astype(np.int64) * DAY, array, out)
        if pa.types.is_date64(kind):
            return _with_nulls(
                np.clip(plain_numbers(array), -_FARTHEST_TIME // 1000, _FARTHEST_TIME // 1000)
                * 1000,
                array,
                out,
            )
        if pa.types.is_integer(kind):
            array = array.cast(pa.string())
        elif not is_text(kind):
            raise wrong_type(name, kind, "a timestamp or text")
        column = text_column(array)
        times = out
        if times is None or column.indices is not None:
            times = np.empty(column.values, np.int64)
        parse_times(column.offsets, column.data, column.valid, times)
        return gather(times, column.indices, int(MISSING_TIME), out)

    def days(self, array: pa.Array, name: str) -> tuple[Int64, npt.NDArray[np.bool_]]:
        """Return days since 1970-01-01, and where only a month was given (empty: nowhere)."""
        kind = array.type
        if pa.types.is_date32(kind):
            return _with_nulls(plain_numbers(array).astype(np.int64), array), _NOWHERE
        if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
            times = self.times(array, name)
            return np.where(times == MISSING_TIME, times, times // DAY), _NOWHERE
        if pa.types.is_integer(kind):
            array = array.cast(pa.string())
        elif not is_text(kind):
            raise wrong_type(name, kind, "a date or text")
        packed = self._days.payload(text_column(array), int(MISSING_TIME))
        month_only = (packed & 1).astype(np.bool_) & (packed > BAD)
        return np.where(packed > BAD, packed >> 1, packed), month_only

    def fen(self, array: pa.Array, name: str) -> Int64:
        """Return an amount of CNY in fen, halves of a fen away from zero."""
        kind = array.type
        if is_text(kind):
            return self._fen.payload(text_column(array), int(MISSING_TIME))
        if pa.types.is_floating(kind):
            return _from_float(array, 100)
        if pa.types.is_integer(kind):
            values = _whole_numbers(array)
            return _with_nulls(np.clip(values, -_FARTHEST // 100, _FARTHEST // 100) * 100, array)
        if pa.types.is_decimal(kind):
            return _with_nulls(_decimal_fen(array), array)
        raise wrong_type(name, kind, "a decimal, a float or text")

    def whole(self, array: pa.Array, name: str) -> Int64:
        """Return whole numbers; fractions are BAD."""
        kind = array.type
        if is_text(kind):
            return self._whole.payload(text_column(array), int(MISSING_TIME))
        if pa.types.is_integer(kind):
            return _with_nulls(_whole_numbers(array), array)
        if pa.types.is_decimal(kind):
            array, kind = array.cast(pa.float64()), pa.float64()
        if pa.types.is_floating(kind):
            values = _from_float(array, 1)
            fraction = values != plain_numbers(array)
            return np.where(fraction & (values != MISSING_TIME), BAD, values)
        raise wrong_type(name, kind, "whole numbers")

    def milli(self, array: pa.Array, name: str) -> Int64:
        """Return thousandths of a number."""
        kind = array.type
        if is_text(kind):
            return self._milli.payload(text_column(array), int(MISSING_TIME))
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            # Beyond 2^53 thousandths mean nothing; such numbers are out of range all the same.
            array, kind = array.cast(pa.float64(), safe=False), pa.float64()
        if pa.types.is_floating(kind):
            return _from_float(array, _MILLI)
        raise wrong_type(name, kind, "numbers")

    def truth(self, array: pa.Array, name: str) -> Int64:
        """Return 1 for true, 0 for false."""
        kind = array.type
        if pa.types.is_boolean(kind):
            filled = pc.fill_null(array, False).cast(pa.int8())
            return _with_nulls(plain_numbers(filled).astype(np.int64), array)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            values = self.whole(array, name)
            allowed = (values == 0) | (values == 1) | (values == MISSING_TIME)
            return np.where(allowed, values, BAD)
        if is_text(kind):
            return self._bool.payload(text_column(array), int(MISSING_TIME))
        raise wrong_type(name, kind, "true or false")


def _whole_numbers(array: pa.Array) -> Int64:
    values = plain_numbers(array)
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(_FARTHEST))
    wide: Int64 = values.astype(np.int64)
    return np.maximum(wide, -_FARTHEST)


@kernel
def _scaled(
    floats: npt.NDArray[np.float64],
    valid: npt.NDArray[np.bool_],
    scale: float,
    out: npt.NDArray[np.int64],
) -> None:
    """Round ``floats × scale`` half away from zero; NaN is missing, infinite BAD. All ``(n,)``."""
    for i in range(len(floats)):
        value = floats[i] * scale
        if (len(valid) > 0 and not valid[i]) or value != value:
            out[i] = _MISSING
        elif value > _FARTHEST or value < -_FARTHEST:
            out[i] = _BAD
        elif value >= 0:
            # A hair is added because 10.005 is stored a little below itself.
            out[i] = np.int64(value + 0.5 + value * 1e-15)
        else:
            out[i] = -np.int64(0.5 - value - value * 1e-15)


def _from_float(array: pa.Array, scale: int) -> Int64:
    floats = plain_numbers(array).astype(np.float64)
    out = np.empty(len(floats), np.int64)
    _scaled(floats, validity(array), float(scale), out)
    return out


@kernel
def to_int32(
    values: npt.NDArray[np.int64],
    low: int,
    high: int,
    missing: int,
    out: npt.NDArray[np.int32],
) -> int:
    """Narrow ``values``; ``missing`` for MISSING_TIME and for what is not from low to high.

    Returns how many values are neither missing nor in range.
    """
    wrong = 0
    for i in range(len(values)):
        value = values[i]
        if low <= value <= high:
            out[i] = value
        else:
            out[i] = missing
            if value != _MISSING:
                wrong += 1
    return wrong


@kernel
def count_outside(values: npt.NDArray[np.int64], low: int, high: int, allow_missing: bool) -> int:
    """Return how many values are not from ``low`` to ``high``."""
    wrong = 0
    for i in range(len(values)):
        value = values[i]
        if (value < low or value > high) and not (allow_missing and value == _MISSING):
            wrong += 1
    return wrong


def _decimal_fen(array: pa.Array) -> Int64:
    scale = array.type.scale
    wide = array.cast(pa.decimal128(38, scale)) if array.type.bit_width != 128 else array
    words = np.frombuffer(wide.buffers()[1], np.int64).reshape(-1, 2)
    words = words[wide.offset : wide.offset + len(wide)]
    low = words[:, 0]
    fits = words[:, 1] == (low >> 63)
    low = np.clip(
        np.where(fits, low, np.where(words[:, 1] < 0, -_FARTHEST, _FARTHEST)), -(1 << 62), 1 << 62
    )
    if scale <= 2:
        factor = 10 ** (2 - scale)
        fen: Int64 = np.clip(low, -_FARTHEST // factor, _FARTHEST // factor) * factor
        return fen
    if scale > 18 + 2:
        return _from_float(wide.cast(pa.float64()), 100)
    divisor = 10 ** (scale - 2)
    magnitude = (np.abs(low) + divisor // 2) // divisor
    rounded: Int64 = np.where(low < 0, -magnitude, magnitude)
    return rounded

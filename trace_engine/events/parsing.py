"""Text to times, dates, amounts and truth values: what a sender may write, and nothing guessed.

Times come in many forms (NHSA interfaces even drop the blank between date and time), are frequent
and mostly distinct: a kernel reads them. Dates, prices and counts repeat: each distinct text is
read once in Python (see ``texts.TextTable``).
"""

from __future__ import annotations

import calendar
import re
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf
from trace_engine.events.batch import DAY, MISSING_TIME

Int64 = npt.NDArray[np.int64]

BAD = int(MISSING_TIME) + 1  # what a parser answers for text it cannot read
SHANGHAI_OFFSET = 8 * 3600 * 1_000_000  # µs; no summer time since 1992
FIRST_TIME = 10_957 * DAY  # 2000-01-01: no drug was traced by code before
LAST_TIME = 47_482 * DAY  # 2100-01-01, exclusive

TIME_FORMS = "YYYY-MM-DD[ HH:MM[:SS]], YYYYMMDD[HHMMSS], YYYY年M月D日[ HH:MM[:SS]] or ISO 8601"
DATE_FORMS = "YYYY-MM-DD, YYYYMMDD, YYYY-MM or YYYYMM"

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MISSING = np.int64(MISSING_TIME)
_BAD = np.int64(BAD)
_DAY = np.int64(DAY)
_SHANGHAI = np.int64(SHANGHAI_OFFSET)


@leaf
def days_of(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01 of a Gregorian date (Hinnant, chrono-compatible algorithms)."""
    y = year - 1 if month <= 2 else year
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@leaf
def _month_length(year: int, month: int) -> int:
    if month == 2:
        leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


@leaf
def _digits(data: npt.NDArray[np.uint8], i: int, end: int) -> int:
    """Return how many digits stand from ``i`` on."""
    start = i
    while i < end and 48 <= data[i] <= 57:
        i += 1
    return i - start


@leaf
def _number(data: npt.NDArray[np.uint8], i: int, count: int) -> int:
    value = 0
    for k in range(i, i + count):
        value = value * 10 + int(data[k]) - 48
    return value


@leaf
def _usual_time(data: npt.NDArray[np.uint8], start: np.uint64) -> np.int64:
    """Return the time of ``YYYY-MM-DD HH:MM:SS`` (or with T) at ``start``, or BAD if it is not so."""
    u = np.uint64
    separators = (
        data[start + u(4)] == 45
        and data[start + u(7)] == 45
        and (data[start + u(10)] == 32 or data[start + u(10)] == 84)
        and data[start + u(13)] == 58
        and data[start + u(16)] == 58
    )
    if not separators:
        return _BAD
    for k in (0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18):
        byte = data[start + u(k)]
        if byte < 48 or byte > 57:
            return _BAD
    year = _pair(data, start) * 100 + _pair(data, start + u(2))
    month = _pair(data, start + u(5))
    day = _pair(data, start + u(8))
    hour = _pair(data, start + u(11))
    minute = _pair(data, start + u(14))
    second = _pair(data, start + u(17))
    if month < 1 or month > 12 or day < 1 or day > _month_length(year, month) or year < 1:
        return _BAD
    if hour > 23 or minute > 59 or second > 59:
        return _BAD
    seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    return np.int64(seconds) * np.int64(1_000_000)


@leaf
def _pair(data: npt.NDArray[np.uint8], i: np.uint64) -> int:
    return (int(data[i]) - 48) * 10 + int(data[i + np.uint64(1)]) - 48


@leaf
def _is_sign(data: npt.NDArray[np.uint8], i: int, end: int, a: int, b: int, c: int) -> bool:
    """Return whether the three bytes of one UTF-8 character stand at ``i``."""
    return i + 3 <= end and data[i] == a and data[i + 1] == b and data[i + 2] == c


@leaf
def _parse_time(data: npt.NDArray[np.uint8], i: int, end: int) -> np.int64:
    """Return µs of Shanghai wall clock of the text ``data[i:end]`` (no outer blanks), or BAD."""
    run = _digits(data, i, end)
    hour = 0
    minute = 0
    second = 0
    fraction = 0
    time_digits = 0  # digits of a time glued to the date
    if run == 4:
        year = _number(data, i, 4)
        i += 4
        if i >= end:
            return _BAD
        separator = data[i]
        chinese = _is_sign(data, i, end, 0xE5, 0xB9, 0xB4)  # 年
        if not chinese and separator != 45 and separator != 47 and separator != 46:  # - / .
            return _BAD
        i += 3 if chinese else 1
        run = min(_digits(data, i, end), 2)
        if run == 0:
            return _BAD
        month = _number(data, i, run)
        i += run
        if chinese:
            if not _is_sign(data, i, end, 0xE6, 0x9C, 0x88):  # 月
                return _BAD
        elif i >= end or data[i] != separator:
            return _BAD
        i += 3 if chinese else 1
        run = min(_digits(data, i, end), 2)
        if run == 0:
            return _BAD
        day = _number(data, i, run)
        i += run
        if chinese:
            if not _is_sign(data, i, end, 0xE6, 0x97, 0xA5):  # 日
                return _BAD
            i += 3
    elif run == 8 or run == 12 or run == 14 or run == 17:
        year = _number(data, i, 4)
        month = _number(data, i + 4, 2)
        day = _number(data, i + 6, 2)
        i += 8
        time_digits = run - 8
    else:
        return _BAD
    if year < 1 or month < 1 or month > 12 or day < 1 or day > _month_length(year, month):
        return _BAD
    result = np.int64(days_of(year, month, day)) * _DAY
    glued = time_digits > 0
    while i < end and data[i] == 32:
        i += 1
    if i < end and (data[i] == 84 or data[i] == 116):  # T
        i += 1
        if i >= end:
            return _BAD
    if i >= end:
        return result
    run = _digits(data, i, end)
    if glued or run == 6 or run == 4:
        if run != 4 and run != 6 and run != 9:
            return _BAD
        hour = _number(data, i, 2)
        minute = _number(data, i + 2, 2)
        if run >= 6:
            second = _number(data, i + 4, 2)
        if run == 9:
            fraction = _number(data, i + 6, 3) * 1000
        i += run
    else:
        if run < 1 or run > 2:
            return _BAD
        hour = _number(data, i, run)
        i += run
        if i >= end or data[i] != 58:
            return _BAD
        i += 1
        if _digits(data, i, end) != 2:
            return _BAD
        minute = _number(data, i, 2)
        i += 2
        if i < end and data[i] == 58:
            i += 1
            if _digits(data, i, end) != 2:
                return _BAD
            second = _number(data, i, 2)
            i += 2
    if i < end and (data[i] == 46 or data[i] == 44) and fraction == 0:  # . ,
        i += 1
        run = _digits(data, i, end)
        if run < 1:
            return _BAD
        used = min(run, 6)
        fraction = _number(data, i, used)
        for _ in range(6 - used):
            fraction *= 10
        i += run
    if hour > 23 or minute > 59 or second > 59:
        return _BAD
    result += np.int64(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction)
    while i < end and data[i] == 32:
        i += 1
    if i >= end:
        return result
    sign = data[i]
    i += 1
    if sign == 90 or sign == 122:  # Z
        if i < end:
            return _BAD
        return result + _SHANGHAI
    if sign != 43 and sign != 45:
        return _BAD
    run = _digits(data, i, end)
    if run != 2 and run != 4:
        return _BAD
    offset = _number(data, i, 2) * 60
    if run == 4:
        offset += _number(data, i + 2, 2)
    i += run
    if run == 2 and i < end:
        if data[i] != 58 or _digits(data, i + 1, end) != 2:
            return _BAD
        offset += _number(data, i + 1, 2)
        i += 3
    if i < end or offset > 18 * 60:
        return _BAD
    if sign == 45:
        offset = -offset
    return result - np.int64(offset) * np.int64(60_000_000) + _SHANGHAI


@kernel
def parse_times(
    offsets: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    out: npt.NDArray[np.int64],
) -> None:
    """Read texts as µs of Shanghai wall clock; MISSING_TIME for null or blank, BAD if unreadable.

    A time with an offset from UTC is converted; without one it is Shanghai wall clock already.
    ``offsets`` ``(n + 1,)``, ``valid`` ``(n,)`` or empty, ``out`` ``(n,)``.
    """
    for row in range(len(offsets) - 1):
        out[row] = _MISSING
        if len(valid) > 0 and not valid[row]:
            continue
        start = offsets[row]
        end = offsets[row + 1]
        while start < end and data[start] <= 32:
            start += 1
        while start < end and data[end - 1] <= 32:
            end -= 1
        if end - start == 19:
            out[row] = _usual_time(data, np.uint64(start))
            if out[row] != _BAD:
                continue
        if start < end:
            out[row] = _parse_time(data, start, end)


_DATE = re.compile(
    r"(?P<year>\d{4})(?:"
    r"(?P<sep>[-/.])(?P<month>\d{1,2})(?:(?P=sep)(?P<day>\d{1,2}))?"
    r"|(?P<month2>\d{2})(?P<day2>\d{2})?"
    r"|年(?P<month3>\d{1,2})月(?:(?P<day3>\d{1,2})日)?"
    r")(?:[T ]*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?",
    re.ASCII,
)


def parse_date(text: str) -> tuple[int, bool] | None:
    """Return (day, whether only a month was given) of a date, or None if it is none.

    A month, or a day 00 as GS1 allows, gives the last day of that month.
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    part = found.groupdict()
    year = int(part["year"])
    month = int(part["month"] or part["month2"] or part["month3"])
    day = int(part["day"] or part["day2"] or part["day3"] or 0)
    if not (1900 <= year <= 9999 and 1 <= month <= 12):
        return None
    length = calendar.monthrange(year, month)[1]
    if day > length:
        return None
    ordinal = date(year, month, day or length).toordinal() - _EPOCH_ORDINAL
    return ordinal, day == 0


_AMOUNT = re.compile(
    r"[¥￥]?\s*([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][+-]?\d{1,3})?)\s*元?", re.ASCII
)


def parse_decimal(text: str) -> Decimal | None:
    """Return the number ``text`` says (thousands separators, ¥ and 元 allowed), or None."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return Decimal(found[1].replace(",", ""))
    except InvalidOperation:
        return None


def parse_fen(text: str) -> int:
    """Return the amount in fen, halves rounded up, or BAD. Beyond ±10**15 fen it is cut there."""
    value = parse_decimal(text)
    if value is None:
        return BAD
    fen = (value * 100) if abs(value) < Decimal(10) ** 13 else Decimal(10) ** 15
    if value < 0 and fen > 0:
        fen = -fen
    return int(fen.quantize(Decimal(1), ROUND_HALF_UP))


def parse_whole(text: str) -> int:
    """Return a whole number (``3``, ``3.0``), or BAD. Beyond ±10**15 it is cut there."""
    value = parse_decimal(text)
    if value is None:
        return BAD
    if abs(value) >= Decimal(10) ** 15:
        return 10**15 if value > 0 else -(10**15)
    return int(value) if value == value.to_integral_value() else BAD


_TRUE = frozenset({"1", "true", "t", "yes", "y", "是", "1.0"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "否", "0.0"})


def parse_bool(text: str) -> int:
    """Return 1, 0 or BAD for ``true``/``1``/``yes``/``是`` and their opposites."""
    word = text.strip().lower()
    return 1 if word in _TRUE else 0 if word in _FALSE else BAD

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.arrays import margins, shaped, shapes
from trace_engine.events.batch import DAY, MISSING_TIME
from trace_engine.events.parsing import (
    BAD,
    parse_bool,
    parse_date,
    parse_fen,
    parse_whole,
)
from trace_engine.events.values import ValueReader

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall clock
SHANGHAI = timezone(timedelta(hours=8))

FORMS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d%H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S",
    "%Y.%m.%d %H:%M:%S", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%m%d %H:%M:%S",
    "%Y年%m月%d日 %H:%M:%S", "%Y年%m月%d日%H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S,%f", "  %Y-%m-%d  %H:%M:%S ",
)  # fmt: skip
moments = st.datetimes(datetime(1901, 1, 1), datetime(2199, 12, 31))  # noqa: DTZ001


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def read(values: list[str | None]) -> list[int]:
    return ValueReader().times(pa.array(values, pa.string()), "event_time").tolist()


@given(moment=moments, form=st.sampled_from(FORMS))
def test_times_in_all_forms(moment: datetime, form: str) -> None:
    if "%f" not in form:
        moment = moment.replace(microsecond=0)
    assert read([moment.strftime(form)]) == [micros(moment)]


@given(moment=moments, minutes=st.integers(-12 * 60, 14 * 60))
def test_offsets_are_converted_to_shanghai(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = micros(aware.astimezone(SHANGHAI).replace(tzinfo=None))
    assert read([aware.isoformat(), aware.isoformat(" ").replace(":", ":")]) == [expected] * 2
    utc = aware.astimezone(UTC).replace(tzinfo=None)
    assert read([utc.isoformat() + "Z"]) == [expected]


@given(moment=moments)
def test_dates_alone_are_midnight(moment: datetime) -> None:
    day = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001
    forms = [f"{day:%Y-%m-%d}", f"{day:%Y/%m/%d}", f"{day:%Y%m%d}"]
    forms.append(f"{day.year}/{day.month}/{day.day}")
    forms.append(f"{day.year}年{day.month}月{day.day}日")
    assert read(forms) == [micros(day)] * 5


@pytest.mark.parametrize(
    "text",
    [
        "2024-13-01", "2024-02-30", "2023-02-29", "2024-00-10", "20240230", "2024-05", "202405",
        "2024-05-10 24:00:00", "2024-05-10 12:60:00", "2024-05-10 12:00:60", "2024-05-10 12",
        "2024-05-10 12:", "2024-05-10T", "2024-05/10", "yesterday", "2024-05-10 12:00:00 x",
        "2024-05-10 12:00:00+", "2024-05-10 12:00:00+08:0", "2024-05-10 12:00:00.", "1715331435",
        "1715331435000", "２０２４-05-10", "2024-05-10 12:00:00Zx", "2024-05-10 1200", "2024",
        "2024-05-10 12:00:00+25:00", "2024-05-1012345", "-2024-05-10", "2024--05-10",
        "2024年5月", "2024年5月1", "2024年5-1", "2024年13月1日", "2024年", "2024年5月1日x", "2024-5月1日",
    ],
)  # fmt: skip
def test_what_is_no_time_is_bad(text: str) -> None:
    if text == "2024-05-10 1200":
        assert read([text]) == [micros(datetime(2024, 5, 10, 12))]  # noqa: DTZ001 - four digits
    else:
        assert read([text]) == [BAD]


@given(st.text("0123456789-/:. TZ+年", max_size=25))
def test_any_text_is_read_or_bad(text: str) -> None:
    (value,) = read([text])
    if value not in (BAD, int(MISSING_TIME)):
        assert text.strip()[:4].isdigit()
    elif value == MISSING_TIME:
        assert text.strip() == ""


@given(
    values=st.lists(st.one_of(st.none(), moments.map(str), st.just("x")), max_size=20),
    shape=shapes,
    before=margins,
    behind=margins,
)
def test_times_of_slices_with_nulls(
    values: list[str | None], shape: pa.DataType, before: int, behind: int
) -> None:
    array = shaped(values, shape, before, behind)
    expected = [
        int(MISSING_TIME) if v is None else BAD if v == "x" else micros(datetime.fromisoformat(v))
        for v in values
    ]
    assert ValueReader().times(array, "t").tolist() == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai", "America/New_York"])
def test_timestamps_of_any_unit_and_zone(unit: str, zone: str | None) -> None:
    seconds = [1_715_331_435, None, -5]
    array = pa.array(seconds, pa.timestamp("s", tz=zone)).cast(pa.timestamp(unit, tz=zone))
    shift = 0 if zone is None else 8 * 3600
    expected = [int(MISSING_TIME) if s is None else (s + shift) * 1_000_000 for s in seconds]
    found = ValueReader().times(array, "t")
    assert found.tolist() == expected
    assert found.flags.writeable


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_absurd_timestamps_do_not_wrap_around(unit: str) -> None:
    array = pa.array([2**62, -(2**62)], pa.int64()).cast(pa.timestamp(unit))
    high, low = ValueReader().times(array, "t").tolist()
    assert high > 200 * 366 * DAY
    assert low < 0


def test_dates_as_times() -> None:
    days = pa.array([19_853, None], pa.int32())
    for kind in (pa.date32(), pa.date64()):
        array = days.cast(pa.date32()).cast(kind)
        assert ValueReader().times(array, "t").tolist() == [19_853 * DAY, int(MISSING_TIME)]
    assert ValueReader().times(pa.array([20240510]), "t").tolist() == [19_853 * DAY]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-10", ("2024-05-10", False)),
        ("20240510", ("2024-05-10", False)),
        ("2024/5/1", ("2024-05-01", False)),
        ("2024年5月1日", ("2024-05-01", False)),
        ("2024-05-10 00:00:00", ("2024-05-10", False)),
        ("2024-02", ("2024-02-29", True)),
        ("202302", ("2023-02-28", True)),
        ("2024-12-00", ("2024-12-31", True)),
        ("2024年12月", ("2024-12-31", True)),
        ("9999-12-31", ("9999-12-31", False)),
        ("202413", None),
        ("2024-02-30", None),
        ("0202-02-01", None),
        ("24-02-01", None),
        ("soon", None),
        ("٢٠٢٤-05-10", None),
    ],
)
def test_dates(text: str, expected: tuple[str, bool] | None) -> None:
    found = parse_date(text)
    if expected is None:
        assert found is None
    else:
        assert found == (int(np.datetime64(expected[0], "D").astype(int)), expected[1])


@pytest.mark.parametrize(
    ("text", "fen"),
    [
        ("12.5", 1250), ("12", 1200), ("0.005", 1), ("0.004", 0), (".5", 50), ("12.", 1200),
        ("-1", -100), ("+1", 100), ("1,234.50", 123450), ("¥12.50", 1250), ("12.50元", 1250),
        ("1e3", 100000), ("12,5", BAD), ("", BAD), ("abc", BAD), ("1.2.3", BAD), ("NaN", BAD),
        ("Infinity", BAD), ("１２", BAD), ("1e999", 10**15), ("-1e999", -(10**15)),
    ],
)  # fmt: skip
def test_amounts(text: str, fen: int) -> None:
    assert parse_fen(text) == fen


def test_whole_numbers_and_truth() -> None:
    assert [parse_whole(t) for t in ("3", "3.0", "3.5", "x", "1e20")] == [3, 3, BAD, BAD, 10**15]
    assert [parse_bool(t) for t in ("是", "TRUE", "0", "否", "maybe")] == [1, 1, 0, 0, BAD]


def test_amounts_of_every_type_agree() -> None:
    values = ["0.00", "0.01", "12.34", "99999.99", None]
    text = pa.array(values)
    exact = text.cast(pa.decimal128(12, 2))
    expected = [0, 1, 1234, 9999999, int(MISSING_TIME)]
    types = [pa.float64(), pa.decimal128(20, 6), pa.decimal256(40, 2), pa.decimal128(30, 4)]
    arrays = [text, exact, *(exact.cast(t) for t in types), text.dictionary_encode()]
    for array in arrays:
        assert ValueReader().fen(array, "p").tolist() == expected, array.type
        assert ValueReader().fen(array.slice(2), "p").tolist() == expected[2:], array.type
    assert ValueReader().fen(pa.array([3, None]), "p").tolist() == [300, int(MISSING_TIME)]


def test_odd_floats() -> None:
    array = pa.array([float("nan"), float("inf"), -0.015, 0.125, 1e300, 10.005])
    found = ValueReader().fen(array, "p").tolist()
    assert found == [int(MISSING_TIME), BAD, -2, 13, BAD, 1001]


def test_whole_numbers_of_every_type_agree() -> None:
    for kind in (pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(20, 0), pa.string()):
        array = pa.array([1, None, 7]).cast(kind)
        assert ValueReader().whole(array, "q").tolist() == [1, int(MISSING_TIME), 7], kind
    assert ValueReader().whole(pa.array([1.5, 2.0]), "q").tolist() == [BAD, 2]
    assert ValueReader().whole(pa.array([2**64 - 1], pa.uint64()), "q")[0] > 2**31


def test_truth_of_every_type_agrees() -> None:
    for kind in (pa.bool_(), pa.int8(), pa.float64()):
        array = pa.array([True, None, False]).cast(pa.int8()).cast(kind)
        assert ValueReader().truth(array, "g").tolist() == [1, int(MISSING_TIME), 0], kind
    assert ValueReader().truth(pa.array([2]), "g").tolist() == [BAD]

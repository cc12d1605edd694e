from __future__ import annotations

import datetime as dt

import pytest

from trace_engine.core.workdays import CALENDAR, WEEKDAYS, add_working_days


# Counted by hand on the State Council's schedules of 2025 and 2026; the start is not counted.
@pytest.mark.parametrize(
    "start,days,end",
    [
        ("2025-06-20", 3, "2025-06-25"),
        ("2026-01-30", 3, "2026-02-04"),
        ("2026-02-13", 10, "2026-03-05"),  # Spring Festival, with make-up days on both sides
        ("2026-04-28", 3, "2026-05-06"),
        ("2026-09-18", 40, "2026-11-19"),
        ("2026-01-05", 0, "2026-01-05"),
    ],
)
def test_known_schedules(start, days, end):
    expected = (dt.date.fromisoformat(end), CALENDAR)
    assert add_working_days(dt.date.fromisoformat(start), days) == expected


def test_years_without_schedule_fall_back_to_weekdays_and_say_so():
    assert add_working_days(dt.date(2027, 1, 1), 1) == (dt.date(2027, 1, 4), WEEKDAYS)
    assert add_working_days(dt.date(2003, 5, 2), 1) == (dt.date(2003, 5, 5), WEEKDAYS)
    # One day beyond the known years is enough.
    assert add_working_days(dt.date(2026, 12, 31), 1) == (dt.date(2027, 1, 1), WEEKDAYS)


def test_negative_days_are_refused():
    with pytest.raises(ValueError, match="expected 0 or more"):
        add_working_days(dt.date(2026, 1, 1), -1)

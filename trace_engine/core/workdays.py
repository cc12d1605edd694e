"""Working days of mainland China."""

from __future__ import annotations

import datetime as dt

CALENDAR = "state_council"  # 国务院办公厅 holiday schedule, as chinesecalendar carries it
WEEKDAYS = "weekdays_only"  # no schedule for the year: Monday to Friday, holidays unknown


def is_working_day(day: dt.date) -> tuple[bool, bool]:
    """Return whether ``day`` is a working day, and whether the official schedule says so."""
    import chinese_calendar

    try:
        return bool(chinese_calendar.is_workday(day)), True
    except NotImplementedError:
        return day.weekday() < 5, False


def add_working_days(start: dt.date, days: int) -> tuple[dt.date, str]:
    """Return the ``days``-th working day after ``start`` (not counted) and the basis.

    The basis is :data:`CALENDAR`, or :data:`WEEKDAYS` if any day on the way lies outside the years
    whose schedule is known.
    """
    if days < 0:
        raise ValueError(f"days: found {days}, expected 0 or more")
    day, known, left = start, True, days
    while left:
        day += dt.timedelta(days=1)
        working, official = is_working_day(day)
        known &= official
        left -= working
    return day, CALENDAR if known else WEEKDAYS

"""Which findings a page shows: filters as SQL that stays fast among a million findings.

Pages are ordered by number. A filter on one value has an index in that order, so its first hundred
rows are read and no more. Two things need care:

- SQLite without statistics takes any index it finds. So the most telling filter that is stated is
  chosen here, and the others are hidden from its planner (a unary plus). PostgreSQL has statistics.
- A filter on a range (time, severity) or on several values has no index in the order of numbers. Where it
  leaves few findings, they are looked up and sorted. Where it leaves many, rows are read by number
  until the page is full, beginning where the first of them stands: numbers follow time, so that
  all findings of last March stand together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from trace_engine.store.moments import to_micros
from trace_engine.store.tables import FINDING, FINDING_CODE, indexed

# Up to so many findings are sorted for a page; beyond the second figure, a filter leaves so many of
# a million that the page is soon full wherever one begins.
FEW = 20_000
MANY = 100_000

# The most telling first: on how few findings one value of a filter is.
_TELLING = ("subject_id", "batch_no", "drug_id", "region", "city")
_VAGUE = ("detector", "jurisdiction", "province", "late", "family")
_Conditions = Callable[[Any], list[ColumnElement[bool]]]
_REGION_COLUMNS = {2: "province", 4: "city", 6: "region"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFilters:
    """What findings to list; what is None or empty does not restrict.

    ``region`` is the beginning of a GB/T 2260 code (2, 4 or 6 digits are fast). ``since`` and
    ``until`` (not included) are about the time of the event and need a zone. ``code`` finds every
    finding that lists the code, not only those it stands first in.
    """

    detector: tuple[str, ...] = ()
    family: str | None = None
    severity_min: float | None = None
    subject_id: str | None = None
    drug_id: str | None = None
    batch_no: str | None = None
    code: str | None = None
    region: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    late: bool | None = None
    jurisdiction: str | None = None


def numbers_of_page(
    connection: Connection, filters: FindingFilters, after: int | None, limit: int, *, newest: bool
) -> list[int]:
    """Return the numbers of the first ``limit`` findings after number ``after``, in order."""
    number = FINDING.c.number
    by: ColumnElement[int] = number
    query = select(number)
    equal = _equalities(filters)
    leading = next((name for name in _TELLING if name in equal), None)
    if filters.code is not None:
        query = query.join(FINDING_CODE, FINDING_CODE.c.id == FINDING.c.id)
        query = query.where(FINDING_CODE.c.code == indexed(filters.code))
        leading = "code"
    free = leading is None
    hidden = _hidden if connection.dialect.name == "sqlite" else _plain
    for column, conditions in _ranges(filters):
        if free and _count(connection, conditions(column), FEW + 1) <= FEW:
            query = query.where(*conditions(column))
            leading, free = column.name, False
            by = number + 0  # look them up and sort: not by the index in the order of numbers
            continue
        query = query.where(*conditions(hidden(column)))
        if free and column is FINDING.c.event_time:
            bound = _first_number(connection, conditions(column), newest=newest)
            if bound is not None:
                query = query.where(number <= bound if newest else number >= bound)
    if leading is None:
        leading = next((name for name in _VAGUE if name in equal), None)
    for name, value in equal.items():
        column = FINDING.c[name]
        query = query.where((column if name == leading else hidden(column)) == value)
    for condition in _unindexed(filters):
        query = query.where(condition)
    if after is not None:
        query = query.where(number < after if newest else number > after)
    query = query.order_by(by.desc() if newest else by).limit(limit)
    return list(connection.execute(query).scalars())


def conditions_of(query: Select[Any], filters: FindingFilters) -> Select[Any]:
    """Return ``query`` over findings restricted to what ``filters`` leave, for reading them all."""
    if filters.code is not None:
        query = query.join(FINDING_CODE, FINDING_CODE.c.id == FINDING.c.id)
        query = query.where(FINDING_CODE.c.code == indexed(filters.code))
    for name, value in _equalities(filters).items():
        query = query.where(FINDING.c[name] == value)
    query = query.where(*_unindexed(filters))
    for column, conditions in _ranges(filters):
        query = query.where(*conditions(column))
    return query


def _equalities(filters: FindingFilters) -> dict[str, Any]:
    """Return by column what must be equal."""
    named = ("family", "subject_id", "drug_id", "batch_no", "jurisdiction")
    equal: dict[str, Any] = {
        name: indexed(value) for name in named if (value := getattr(filters, name)) is not None
    }
    if filters.late is not None:
        equal["late"] = filters.late
    if len(filters.detector) == 1:
        equal["detector"] = filters.detector[0]
    if filters.region and len(filters.region) in _REGION_COLUMNS:
        equal[_REGION_COLUMNS[len(filters.region)]] = filters.region
    return equal


def _unindexed(filters: FindingFilters) -> list[ColumnElement[bool]]:
    """Return conditions that no index helps with."""
    if not filters.region or len(filters.region) in _REGION_COLUMNS:
        return []
    return [func.substr(FINDING.c.region, 1, len(filters.region)) == filters.region]


def _ranges(filters: FindingFilters) -> list[tuple[Any, _Conditions]]:
    """Return columns with several values allowed, and what gives the conditions on each."""
    found: list[tuple[Any, _Conditions]] = []
    since, until = to_micros(filters.since), to_micros(filters.until)
    if since is not None or until is not None:

        def period(column: Any) -> list[ColumnElement[bool]]:
            conditions = [] if since is None else [column >= since]
            return conditions if until is None else [*conditions, column < until]

        found.append((FINDING.c.event_time, period))
    if len(filters.detector) > 1:
        found.append((FINDING.c.detector, lambda column: [column.in_(filters.detector)]))
    if filters.severity_min is not None:
        found.append((FINDING.c.severity, lambda column: [column >= filters.severity_min]))
    return found


def _plain(column: Any) -> Any:
    return column


def _hidden(column: Any) -> Any:
    """Return a column's value as an expression that SQLite uses no index for."""
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def _count(connection: Connection, conditions: list[ColumnElement[bool]], most: int) -> int:
    """Return how many findings meet conditions on one indexed column, counting up to ``most``."""
    some = select(FINDING.c.number).where(*conditions).limit(most).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def _first_number(
    connection: Connection, conditions: list[ColumnElement[bool]], *, newest: bool
) -> int | None:
    """Return the highest (or lowest) number in a period; None if it holds too many to look."""
    if _count(connection, conditions, MANY + 1) > MANY:
        return None
    extreme = (func.max if newest else func.min)(FINDING.c.number + 0)  # by the index on time
    found: int | None = connection.execute(select(extreme).where(*conditions)).scalar_one()
    return found

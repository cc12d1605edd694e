"""What the registry says of each enterprise's right to trade, and when: arrays by row.

Built once from ``enterprises`` and ``licence_events``. All arrays have one neutral entry at the end
(row -1: not registered), of which nothing bad is ever said. Days count from 1970-01-01;
:data:`ALWAYS` and :data:`NEVER` stand for days before and after every other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.registry.identifiers import certainly_licence, certainly_uscc, check_licence
from trace_engine.registry.prepare import by_value, split_list
from trace_engine.registry.types import (
    CLASS_NAMES_ACCEPTED,
    LICENSED_TYPES,
    RETAIL_TYPES,
    SCOPE_TERMS,
    STATUS_NAMES,
    LicenceEvent,
    licence_event,
)

if TYPE_CHECKING:
    from trace_engine.registry.prepare import EnterpriseRows

Days = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

ALWAYS = -(2**30)  # a day before every other; room is left for adding days to it
NEVER = 2**30  # a day after every other

CHANGE_SPAN = 2**20  # more than any day

SUSPENDED, CANCELLED, REVOKED = 1, 2, 3  # why an enterprise is closed
_CLOSED = {"suspended": SUSPENDED, "cancelled": CANCELLED, "revoked": REVOKED}
_CLOSING = {
    LicenceEvent.SUSPENDED: SUSPENDED,
    LicenceEvent.CANCELLED: CANCELLED,
    LicenceEvent.REVOKED: REVOKED,
}

# Bits of Licences.number_problem
LICENCE_MALFORMED = 1
USCC_MALFORMED = 2
LICENCE_SHARED = 4

RENEWED_BEFORE = 366  # days before the end of a licence within which its renewal is decided
SAME_NAME = 4  # characters: firms whose names begin alike are taken for one


@dataclass(frozen=True, slots=True)
class Licences:
    """Arrays of shape ``(rows of enterprises + 1,)``, and lists as offsets ``(rows + 2,)``.

    =====================  =======  ============================================================
    ``valid_from``         int32    first day of the licence on record; ALWAYS where not stated
    ``valid_to``           int32    its last day; NEVER where not stated
    ``renewed``            int32    first renewal or issue known from a year before ``valid_to``
                                    on; NEVER
    ``issued``             int32    day of the first issue on record; ALWAYS
    ``undated_status``     bool     closed by its status, since when is not stated
    ``scope``              uint64   drug classes in its scope (bits of ``RegistryView.class_bits``)
    ``scope_known``        bool     states a scope, every term of which is known
    ``scope_since``        int32    last known change of scope: before it, another one held; ALWAYS
    ``number_problem``     int8     bits above
    ``sells_retail``       bool     of a retail type, or one legal person with one that is
    =====================  =======  ============================================================

    ``closed_*``: the times at which an enterprise may not trade, from the day ``closed_from`` to the
    day before ``closed_to``, for the reason ``closed_why``. ``change_days``: distinct days on which
    something on its licence was changed, ascending.
    """

    valid_from: Days
    valid_to: Days
    renewed: Days
    issued: Days
    undated_status: npt.NDArray[np.bool_]
    scope: npt.NDArray[np.uint64]
    scope_known: npt.NDArray[np.bool_]
    scope_since: Days
    number_problem: npt.NDArray[np.int8]
    sells_retail: npt.NDArray[np.bool_]
    closed_offsets: Offsets
    closed_from: Days
    closed_to: Days
    closed_why: npt.NDArray[np.int8]
    change_offsets: Offsets
    change_days: Days
    change_keys: npt.NDArray[np.int64]  # row × CHANGE_SPAN + day: one ascending list of all


def build_licences(
    enterprises: EnterpriseRows, events: pa.Table | None, class_bits: dict[str, int]
) -> Licences:
    """Return what ``enterprises`` and the table ``licence_events`` say. No error for odd rows."""
    n = len(enterprises)
    rows, kinds, days = _events(enterprises, events)
    valid_to = _days(enterprises, "licence_to", NEVER)
    status, since = _status(enterprises)
    closed = _closed(status, since, rows, kinds, days, enterprises.column("status") is not None)
    scope, scope_known = _scopes(enterprises, class_bits)
    renewal = np.isin(kinds, [LicenceEvent.RENEWED, LicenceEvent.ISSUED])
    renewal &= days >= valid_to[rows].astype(np.int64) - RENEWED_BEFORE
    change = kinds == LicenceEvent.CHANGED
    scope_change = kinds == LicenceEvent.SCOPE_CHANGED
    # Several changes filed on one day are one visit to the counter: a move changes many things.
    pairs = np.unique(np.stack([rows, days], 1)[change | scope_change], axis=0)
    return Licences(
        valid_from=_days(enterprises, "licence_from", ALWAYS),
        valid_to=valid_to,
        renewed=_extreme(np.minimum, NEVER, rows[renewal], days[renewal], n),
        issued=_first_issue(rows, kinds, days, n),
        undated_status=np.append((status > 0) & (since == NEVER), False),
        scope=np.append(scope, np.uint64(0)),
        scope_known=np.append(scope_known, False),
        scope_since=_extreme(np.maximum, ALWAYS, rows[scope_change], days[scope_change], n),
        number_problem=np.append(_number_problems(enterprises), np.int8(0)),
        sells_retail=np.append(_sells_retail(enterprises), False),
        closed_offsets=_offsets(closed[:, 0], n),
        closed_from=closed[:, 1].astype(np.int32),
        closed_to=closed[:, 2].astype(np.int32),
        closed_why=closed[:, 3].astype(np.int8),
        change_offsets=_offsets(pairs[:, 0], n),
        change_days=pairs[:, 1].astype(np.int32),
        change_keys=pairs[:, 0] * CHANGE_SPAN + pairs[:, 1],
    )


def _days(enterprises: EnterpriseRows, name: str, missing: int) -> Days:
    """Return a date column as days, with the neutral entry ``missing``."""
    column = enterprises.column(name)
    if column is None:
        return np.full(len(enterprises) + 1, missing, np.int32)
    days = column.cast(pa.int32()).fill_null(missing).to_numpy()
    return np.append(days, missing).astype(np.int32)


def _offsets(rows: npt.NDArray[np.int64], n: int) -> Offsets:
    """Return where the list of each row begins, given the rows of its entries in order."""
    out = np.zeros(n + 2, np.int64)
    np.cumsum(np.bincount(rows, minlength=n + 1), out=out[1:])
    return out


def _extreme(
    choose: np.ufunc, missing: int, rows: npt.NDArray[np.int64], days: npt.NDArray[np.int64], n: int
) -> Days:
    out = np.full(n + 1, missing, np.int32)
    choose.at(out, rows, days.astype(np.int32))
    return out


def _events(
    enterprises: EnterpriseRows, table: pa.Table | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return row, kind and day of the licence events of registered enterprises."""
    nothing = np.empty(0, np.int64)
    if table is None or table.num_rows == 0 or len(enterprises) == 0:
        return nothing, nothing, nothing
    rows = enterprises.rows(table.column("enterprise_id").to_pylist()).astype(np.int64)
    days = table.column("date").cast(pa.int32()).fill_null(NEVER).to_numpy().astype(np.int64)
    kinds = by_value(table.column("kind"), np.int64, licence_event, int(LicenceEvent.OTHER))
    used = (rows >= 0) & (days >= 0) & (days != NEVER)
    return rows[used], kinds[used], days[used]


def _first_issue(
    rows: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int64],
    days: npt.NDArray[np.int64],
    n: int,
) -> Days:
    """Return the day of the first issue where it is the first event of all, else ALWAYS.

    A renewal or change before it shows that there was a licence before.
    """
    issue = kinds == LicenceEvent.ISSUED
    issued = _extreme(np.minimum, NEVER, rows[issue], days[issue], n)
    other = _extreme(np.minimum, NEVER, rows[~issue], days[~issue], n)
    return np.where((issued < NEVER) & (issued <= other), issued, ALWAYS).astype(np.int32)


def _status(enterprises: EnterpriseRows) -> tuple[npt.NDArray[np.int8], Days]:
    """Return why each enterprise is closed today (0 it is not) and since when (NEVER unknown)."""
    column = enterprises.column("status")
    if column is None:
        return np.zeros(len(enterprises), np.int8), np.full(len(enterprises), NEVER, np.int32)

    def why(text: str) -> int:
        return _CLOSED.get(STATUS_NAMES.get(text, STATUS_NAMES.get(text.lower(), "")), 0)

    return by_value(column, np.int8, why, 0), _days(enterprises, "status_date", NEVER)[:-1]


def _closed(
    status: npt.NDArray[np.int8],
    since: Days,
    rows: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int64],
    days: npt.NDArray[np.int64],
    status_stated: bool,
) -> npt.NDArray[np.int64]:
    """Return (row, from, to, why) of all closed times, sorted by row and day.

    The status of today closes from its date on. Earlier closings come from the events: each lasts
    until the next resumption, renewal or issue, or until today's status takes over. One that no
    event ends counts only where the registry has no status: a registry that calls the enterprise
    active says that it was reopened, and nobody knows when.
    """
    found: list[tuple[int, int, int, int]] = [
        (row, int(since[row]), NEVER, int(status[row]))
        for row in np.flatnonzero((status > 0) & (since < NEVER)).tolist()
    ]
    closing = np.isin(kinds, list(_CLOSING))
    concerned = np.isin(rows, np.unique(rows[closing])) & (
        closing | np.isin(kinds, [LicenceEvent.RESUMED, LicenceEvent.ISSUED, LicenceEvent.RENEWED])
    )
    order = np.lexsort((kinds[concerned], days[concerned], rows[concerned]))
    history: dict[int, list[tuple[int, int]]] = {}
    for row, day, kind in np.stack([rows, days, kinds], 1)[concerned][order].tolist():
        history.setdefault(row, []).append((day, kind))
    for row, told in history.items():
        today = int(since[row]) if status[row] > 0 else NEVER
        found += _closed_by_events(row, told, today, status_stated)
    return np.array(sorted(found), np.int64).reshape(-1, 4)


def _closed_by_events(
    row: int, told: Iterable[tuple[int, int]], today: int, status_stated: bool
) -> Iterable[tuple[int, int, int, int]]:
    """Yield the closed times of one enterprise before the day ``today``."""
    begin, why = NEVER, 0
    for day, kind in told:
        reason = _CLOSING.get(LicenceEvent(kind), 0)
        if begin < NEVER and begin < min(day, today):
            yield row, begin, min(day, today), why
        begin, why = (day, reason) if reason else (NEVER, 0)
    if begin < today and (today < NEVER or not status_stated):
        yield row, begin, today, why


def _scopes(
    enterprises: EnterpriseRows, class_bits: dict[str, int]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Return the mask of each scope, and whether every term of it is understood."""
    column = enterprises.column("scope")
    if column is None:
        return np.zeros(len(enterprises), np.uint64), np.zeros(len(enterprises), np.bool_)

    def classes(term: str) -> tuple[str, ...] | None:
        name = CLASS_NAMES_ACCEPTED.get(term) or CLASS_NAMES_ACCEPTED.get(term.lower())
        if name is None and term in class_bits:
            name = term
        return (name,) if name else SCOPE_TERMS.get(term)

    def mask(text: str) -> int:
        named = [name for term in split_list(text) for name in classes(term) or ()]
        return sum({1 << class_bits[name] for name in named if name in class_bits})

    def known(text: str) -> bool:
        terms = split_list(text)
        return bool(terms) and all(classes(term) is not None for term in terms)

    return by_value(column, np.uint64, mask, 0), by_value(column, np.bool_, known, 0)


def _sells_retail(enterprises: EnterpriseRows) -> npt.NDArray[np.bool_]:
    """Return who may sell to persons: retailers, and what is one legal person with a retailer."""
    n = len(enterprises)
    retail = np.isin(enterprises.type[:n], [int(kind) for kind in RETAIL_TYPES])
    column = enterprises.column("uscc")
    if column is None or n == 0:
        return retail
    encoded = pc.dictionary_encode(column).combine_chunks()
    person = np.asarray(encoded.indices.fill_null(len(encoded.dictionary)), np.int64)
    with_retail = np.zeros(len(encoded.dictionary) + 1, np.bool_)
    with_retail[person[retail]] = True
    with_retail[-1] = False
    return retail | with_retail[person]


def _number_problems(enterprises: EnterpriseRows) -> npt.NDArray[np.int8]:
    """Return what is wrong with the numbers of those that need a drug licence."""
    n = len(enterprises)
    out = np.zeros(n, np.int8)
    needing = np.isin(enterprises.type[:n], [int(kind) for kind in LICENSED_TYPES])
    uscc = enterprises.column("uscc")
    if uscc is not None:
        stated = uscc.is_valid().to_numpy() & needing
        out[stated & ~certainly_uscc(uscc)] |= USCC_MALFORMED
    licence = enterprises.column("licence_no")
    if licence is not None:
        stated = licence.is_valid().to_numpy() & needing
        for row in np.flatnonzero(stated & ~certainly_licence(licence)).tolist():
            if not check_licence(licence[row].as_py()):
                out[row] |= LICENCE_MALFORMED
        for row in _shared(enterprises, licence, stated):
            out[row] |= LICENCE_SHARED
    return out


def _shared(
    enterprises: EnterpriseRows, licence: pa.ChunkedArray, stated: npt.NDArray[np.bool_]
) -> Iterable[int]:
    """Yield the rows whose licence number another firm holds too.

    Rows of one group or legal person, and rows whose names begin alike, are one firm: branches
    written down under the licence of their head office. So are rows without a name.
    """
    encoded = pc.dictionary_encode(licence).combine_chunks()
    number = np.asarray(encoded.indices.fill_null(-1), np.int64)
    number[~stated] = -1
    held = np.bincount(number + 1, minlength=1)
    held[0] = 0
    holders: dict[int, list[int]] = {}
    for row in np.flatnonzero(held[number + 1] > 1).tolist():
        holders.setdefault(int(number[row]), []).append(row)

    def firm(row: int) -> tuple[int, str]:
        return int(enterprises.group[row]), enterprises.text(row, "name")[:SAME_NAME]

    def strangers(a: tuple[int, str], b: tuple[int, str]) -> bool:
        return "" not in (a[1], b[1]) and a[1] != b[1] and (a[0] < 0 or a[0] != b[0])

    for rows in holders.values():
        firms: list[Any] = [firm(row) for row in rows]
        for row, mine in zip(rows, firms, strict=True):
            if any(strangers(mine, other) for other in set(firms)):
                yield row

"""Books of what came to a holder and what it sold, by product and batch: kernels of one rule.

The definition stands in ``sale_exceeds_purchase``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals
from trace_engine.core.kernel import kernel
from trace_engine.events.batch import DAY, MISSING_DAY, QUANTITY_STATED, SPLIT_SALE
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry import RegistryView

_IN, _OUT = 0, 1
_UNSTATED, _LEVEL = 1, 2  # bits of ``doubt``

# Columns of a book
_RECEIVED, _SOLD, MADE, DRUG, _DOUBT, _FIRED, LEAD = range(7)
BOOK_COLUMNS = 7
_MIXED = 4  # bit of a book's doubt: two identifiers
NO_DAY = 2**31

_SHIP, _PERSON_SALE = int(Role.SHIP), int(Role.PERSON_SALE)
_DIRECT = int(EventKind.DIRECT_SHIPMENT)
_HOP = np.uint32(signals.HOP | signals.REDIRECTED)
_ONE_HOP, NEW_SALE_BIT = np.uint32(signals.HOP), np.uint32(signals.NEW_SALE)
_SPLIT, _STATED = np.uint8(SPLIT_SALE), np.uint8(QUANTITY_STATED)
# Roles by which goods come in: 1 from another holder, 2 in any case.
COMES_IN = np.zeros(len(Role), np.int8)
COMES_IN[
    [
        Role.RETURN_SHIP, Role.RETURN_RECEIVE, Role.TRANSFER_SHIP, Role.TRANSFER_RECEIVE,
        Role.RECALL_SHIP, Role.RECALL_RECEIVE,
    ]
] = 1  # fmt: skip
COMES_IN[[Role.ORIGIN, Role.CONSUMER_RETURN, Role.STOCK_GAIN]] = 2


@kernel
def select_movements(
    role_of: npt.NDArray[np.int8],
    comes_in: npt.NDArray[np.int8],
    kind: npt.NDArray[np.int8],
    flags: npt.NDArray[np.uint8],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    batch_no: npt.NDArray[np.int32],
    quantity: npt.NDArray[np.int32],
    signal: npt.NDArray[np.uint32],
    level: npt.NDArray[np.int8],
    group: npt.NDArray[np.int32],
    registered: npt.NDArray[np.bool_],
    maker: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.int64],
    what: npt.NDArray[np.int8],
    holder: npt.NDArray[np.int32],
    packs: npt.NDArray[np.int32],
    doubt: npt.NDArray[np.int8],
    counts: npt.NDArray[np.int64],
) -> int:
    """Write what came in and what was sold; return how many. ``counts``: judged, then by reason."""
    m = 0
    for i in range(kind.shape[0]):
        role = role_of[kind[i]]
        hop = (signal[i] & _HOP) != 0
        giver, receiver = source[i], target[i]
        inside = giver >= 0 and receiver >= 0
        inside = inside and (
            giver == receiver or (group[giver] >= 0 and group[giver] == group[receiver])
        )
        if role == _PERSON_SALE:
            sold = (signal[i] & NEW_SALE_BIT) != 0
        else:
            sold = role == _SHIP and (signal[i] & _ONE_HOP) != 0 and kind[i] != _DIRECT
        sold = sold and giver >= 0 and not (inside and role == _SHIP)
        comes = not inside and role != _PERSON_SALE and (hop or comes_in[role] == 1)
        comes = receiver >= 0 and (comes or comes_in[role] == 2)
        if not sold and not comes:
            continue
        if sold and not registered[giver]:
            counts[3] += 1
            sold = False
        elif sold and maker[giver]:
            counts[4] += 1
            sold = False
        elif sold and batch_no[i] < 0:
            counts[2] += 1
            sold = False
        if drug[i] < 0 or batch_no[i] < 0:
            continue
        number = np.int32(1) if (flags[i] & _SPLIT) != 0 else max(quantity[i], np.int32(1))
        unsure = np.int8(0)
        if (flags[i] & _STATED) == 0:
            unsure = np.int8(_UNSTATED)
            if level.shape[0] > 0 and level[i] > 1:
                unsure = np.int8(_UNSTATED | _LEVEL)
        if comes and registered[receiver] and not maker[receiver]:
            rows[m], what[m], holder[m], packs[m], doubt[m] = i, _IN, receiver, number, unsure
            m += 1
        if sold:
            counts[0] += 1
            rows[m], what[m], holder[m], packs[m], doubt[m] = i, _OUT, giver, number, unsure
            m += 1
    return m


@kernel
def gather_columns(
    index: npt.NDArray[np.int64],
    holder: npt.NDArray[np.int32],
    seq_base: int,
    time: npt.NDArray[np.int64],
    event_key: npt.NDArray[np.uint64],
    drug: npt.NDArray[np.int32],
    batch_no: npt.NDArray[np.int32],
    production: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    drug_row: npt.NDArray[np.int32],
    approval: npt.NDArray[np.int64],
    long: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    short: npt.NDArray[np.int32],
) -> None:
    """Copy the columns of the rows ``index`` in one pass."""
    for i in range(index.shape[0]):
        row = index[i]
        long[0, i] = seq_base + row
        long[1, i] = time[row]
        long[2, i] = approval[drug_row[drug[row]]]
        keys[i] = event_key[row]
        short[0, i] = group[holder[i]]
        short[1, i] = drug[row]
        short[2, i] = batch_no[row]
        short[3, i] = production[row]


@kernel
def keep_books(
    time: npt.NDArray[np.int64],
    event_key: npt.NDArray[np.uint64],
    what: npt.NDArray[np.int8],
    drug: npt.NDArray[np.int32],
    packs: npt.NDArray[np.int32],
    doubt: npt.NDArray[np.int8],
    production: npt.NDArray[np.int32],
    keys: npt.NDArray[np.int32],
    books: npt.NDArray[np.int64],
    tolerance: float,
    minimum: int,
    touched: npt.NDArray[np.int64],
    fired: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
) -> int:
    """Enter the rows day by day; write lead row, and sold, received, production of what fired."""
    n = time.shape[0]
    m = 0
    begin = 0
    while begin < n:
        day = time[begin] // DAY
        count = 0
        end = begin
        while end < n and time[end] // DAY == day:
            book = books[keys[end]]
            if book[DRUG] < 0:
                book[DRUG] = drug[end]
            elif book[DRUG] != drug[end]:
                book[_DOUBT] |= _MIXED
            book[_DOUBT] |= doubt[end]
            if production[end] != MISSING_DAY and production[end] < book[MADE]:
                book[MADE] = production[end]
            if what[end] == _IN:
                book[_RECEIVED] += packs[end]
            else:
                book[_SOLD] += packs[end]
                lead = book[LEAD]
                if lead < 0:
                    touched[count] = keys[end]
                    count += 1
                    book[LEAD] = end
                elif time[end] == time[lead] and event_key[end] < event_key[lead]:
                    book[LEAD] = end
            end += 1
        for k in range(count):
            book = books[touched[k]]
            lead, book[LEAD] = book[LEAD], -1
            excess = book[_SOLD] - book[_RECEIVED]
            if not book[_SOLD] > book[_RECEIVED] * (1.0 + tolerance):
                book[_FIRED] = 0
                continue
            unsure = (book[_DOUBT] & _LEVEL) != 0
            unsure = unsure or (book[_DOUBT] & (_MIXED | _UNSTATED)) == (_MIXED | _UNSTATED)
            if unsure or book[_RECEIVED] == 0 or excess < minimum or excess < 2 * book[_FIRED]:
                continue
            book[_FIRED] = excess
            if book[MADE] == NO_DAY:
                continue
            fired[m] = lead
            found[m, 0] = book[_SOLD]
            found[m, 1] = book[_RECEIVED]
            found[m, 2] = book[MADE]
            m += 1
        begin = end
    return m


@lru_cache(maxsize=4)
def approval_of_row(view: RegistryView) -> npt.NDArray[np.int64]:
    """Return a number for the approval of each row of ``drugs``; -1 none (and for unknown drugs)."""
    table = view.registry.table("drugs")
    if table is None or "approval_no" not in table.column_names:
        return np.full(1 if table is None else table.num_rows + 1, -1, np.int64)
    numbers: dict[str, int] = {}
    found = [
        numbers.setdefault(text.strip(), len(numbers)) if text and text.strip() else -1
        for text in table.column("approval_no").to_pylist()
    ]
    return np.array([*found, -1], np.int64)

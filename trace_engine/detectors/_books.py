"""Books of what came to a holder and what it sold, by product and batch: kernels of one rule.

The definition stands in ``sale_exceeds_purchase``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals
from trace_engine.core.kernel import kernel
from trace_engine.core.keys import pair
from trace_engine.events.batch import DAY, MISSING_DAY, QUANTITY_STATED, SPLIT_SALE
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry import RegistryView

_IN, _OUT = 0, 1
_DAY = np.int64(DAY)
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


# What is known of a party: bits of the table that :func:`sum_movements` reads.
REGISTERED, MAKER, GROUPED = 1, 2, 4

SUM_BITS = 14
SUM_SLOTS = 1 << SUM_BITS  # sums open at a time while a slice is read
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@kernel
def sum_movements(
    events: npt.NDArray[np.int64],
    m: int,
    role_of: npt.NDArray[np.int8],
    comes_in: npt.NDArray[np.int8],
    kind: npt.NDArray[np.int8],
    flags: npt.NDArray[np.uint8],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    batch_no: npt.NDArray[np.int32],
    quantity: npt.NDArray[np.int32],
    production: npt.NDArray[np.int32],
    time: npt.NDArray[np.int64],
    event_key: npt.NDArray[np.uint64],
    signal: npt.NDArray[np.uint32],
    level: npt.NDArray[np.int8],
    group: npt.NDArray[np.int32],
    standing: npt.NDArray[np.uint8],
    begin: int,
    slot: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    lots: npt.NDArray[np.uint64],
    packs: npt.NDArray[np.int64],
    doubt: npt.NDArray[np.int8],
    made: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int64],
) -> int:
    """Write what came in and what was sold, summed by holder, drug, batch and day; return how many.

    ``events``: the rows to look at, ascending (those of one role together cost least); ``m``: how
    many sums there are already.
    ``standing`` by party: the bits above. Times before ``begin`` (µs, the first day judged) count as
    ``begin``. ``rows``: the first event of each sum by (time, event key). ``keys``: 2 × holder, and 1
    more of what was sold. ``slot`` begins with -1; a sum driven out of it gives a further one.
    ``counts``: judged, then by reason.
    """
    opened = m  # sums of the day at hand begin here
    day_end = begin + _DAY
    shift = np.uint64(64 - SUM_BITS)
    for i in events:
        role = role_of[kind[i]]
        bits = signal[i]
        if role == _PERSON_SALE:
            if (bits & NEW_SALE_BIT) == 0:
                continue
        elif (bits & _HOP) == 0 and comes_in[role] == 0:
            continue
        giver, receiver = source[i], target[i]
        inside = giver >= 0 and receiver >= 0
        if inside and giver != receiver:
            inside = (standing[giver] & standing[receiver] & GROUPED) != 0
            inside = inside and group[giver] == group[receiver]
        if role == _PERSON_SALE:
            sold, comes = giver >= 0, False
        else:
            sold = role == _SHIP and (bits & _ONE_HOP) != 0 and kind[i] != _DIRECT
            sold = sold and giver >= 0 and not inside
            comes = not inside and ((bits & _HOP) != 0 or comes_in[role] == 1)
            comes = receiver >= 0 and (comes or comes_in[role] == 2)
        if sold and (standing[giver] & REGISTERED) == 0:
            counts[3] += 1
            sold = False
        elif sold and (standing[giver] & MAKER) != 0:
            counts[4] += 1
            sold = False
        elif sold and batch_no[i] < 0:
            counts[2] += 1
            sold = False
        if drug[i] < 0 or batch_no[i] < 0:
            continue
        comes = comes and (standing[receiver] & (REGISTERED | MAKER)) == REGISTERED
        if sold:
            counts[0] += 1
        elif not comes:
            continue
        number = np.int64(1)
        if (flags[i] & _SPLIT) == 0 and quantity[i] > 1:
            number = np.int64(quantity[i])
        unsure = np.int8(0)
        if (flags[i] & _STATED) == 0:
            unsure = np.int8(_UNSTATED)
            if level.shape[0] > 0 and level[i] > 1:
                unsure = np.int8(_UNSTATED | _LEVEL)
        if time[i] >= day_end:  # times ascend
            day_end = (time[i] // _DAY + 1) * _DAY
            opened = m
        lot = pair(np.int64(drug[i]), np.int64(batch_no[i]))
        for side in (_IN, _OUT):
            if (side == _IN and not comes) or (side == _OUT and not sold):
                continue
            party = np.int64(receiver if side == _IN else giver)
            key = np.uint64(2 * party + side)
            place = ((lot ^ (key << np.uint64(20))) * _SPREAD) >> shift
            at = slot[place]
            if at >= opened and lots[at] == lot and keys[at] == key:
                packs[at] += number
                doubt[at] |= unsure
                if made[at] == MISSING_DAY or MISSING_DAY < production[i] < made[at]:
                    made[at] = production[i]
                j = rows[at]
                if event_key[i] < event_key[j] and max(time[i], begin) == max(time[j], begin):
                    rows[at] = i
                continue
            slot[place] = m
            rows[m], keys[m], lots[m] = i, key, lot
            packs[m], doubt[m], made[m] = number, unsure, production[i]
            m += 1
    return m


@kernel
def keep_books(
    time: npt.NDArray[np.int64],
    event_key: npt.NDArray[np.uint64],
    what: npt.NDArray[np.int8],
    drug: npt.NDArray[np.int32],
    packs: npt.NDArray[np.int64],
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

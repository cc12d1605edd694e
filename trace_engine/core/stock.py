"""Stock by seller and drug: the moving weighted cost of what a seller has, day by day.

Integers only (fen and packs), so that no order of additions can change a result. The rules are those
of the price inversion detector's definition; here they are arithmetic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf
from trace_engine.core.keys import add_key, pair

_DAY = np.int64(86_400_000_000)  # µs

# What a remembered row is
PURCHASE, SALE, JUDGED_SALE = 0, 1, 2

# Columns of the stock of a key: one cache line. PACKS below 0: the stock is empty, and VALUE / -PACKS
# is the last known cost. Those of the day are 0 outside a day.
_VALUE, _PACKS, _DAY_VALUE, _DAY_PACKS, _DATED_VALUE, _DATED_PACKS, _SOLD, _PARENT = range(8)
STOCK_COLUMNS = 8


@kernel
def stock_keys(
    slots: npt.NDArray[np.int32],
    words: npt.NDArray[np.uint64],
    used: npt.NDArray[np.int64],
    stock: npt.NDArray[np.int64],
    what: npt.NDArray[np.uint8],
    holder: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    batch_no: npt.NDArray[np.int32],
    ids: npt.NDArray[np.int32],
    begin: int,
) -> int:
    """Fill ``ids`` with the keys (holder, drug, batch), their parents with (holder, drug).

    Returns the row that found no room (two keys a row may be new), or the length.
    """
    n = len(holder)
    # The codes of a bill follow each other, each with its purchase and its sale: remember the last
    # row of either and look a key up only when it changes.
    last = np.full(2, -1, np.int64)
    for i in range(begin, n):
        side = 0 if what[i] == PURCHASE else 1
        j = last[side]
        last[side] = i
        if j >= 0 and holder[i] == holder[j] and drug[i] == drug[j] and batch_no[i] == batch_no[j]:
            ids[i] = ids[j]
            continue
        if used[0] + 2 > words.shape[0]:
            return i
        first = pair(np.int64(holder[i]), np.int64(drug[i]))
        before = used[0]
        key = add_key(slots, words, used, first, np.uint64(np.int64(batch_no[i]) + 1))
        if used[0] > before:
            drug_key = add_key(slots, words, used, first, np.uint64(0))
            stock[key, _PARENT] = drug_key
            stock[drug_key, _PARENT] = drug_key
        ids[i] = np.int32(key)
    return n


@leaf
def _cost(value: np.int64, packs: np.int64, last_value: np.int64, last_packs: np.int64) -> float:
    """Return the cost in fen of a stock of ``value`` and ``packs``, or -1."""
    if packs > 0:
        return float(value) / float(packs)
    if last_packs > 0:
        return float(last_value) / float(last_packs)
    return -1.0


@leaf
def _lower(a: float, b: float) -> float:
    """Return the lower of two costs, or the one that is known (-1 = unknown)."""
    if a < 0.0:
        return b
    if b < 0.0:
        return a
    return min(a, b)


@leaf
def _cost_of_key(stock: npt.NDArray[np.int64], key: np.int64, date_only: bool) -> float:
    """Return the cost a sale at this point of the day is judged against, or -1."""
    value = packs = last_value = last_packs = np.int64(0)
    if stock[key, _PACKS] > 0:
        value, packs = stock[key, _VALUE], stock[key, _PACKS]
    else:
        last_value, last_packs = stock[key, _VALUE], -stock[key, _PACKS]
    all_value = value + stock[key, _DAY_VALUE] + stock[key, _DATED_VALUE]
    all_packs = packs + stock[key, _DAY_PACKS] + stock[key, _DATED_PACKS]
    if not date_only:
        value += stock[key, _DAY_VALUE]
        packs += stock[key, _DAY_PACKS]
    return _lower(
        _cost(value, packs, last_value, last_packs),
        _cost(all_value, all_packs, last_value, last_packs),
    )


@leaf
def _judge(
    stock: npt.NDArray[np.int64], key: np.int64, date_only: bool, code_cost: int
) -> tuple[float, int]:
    """Return the cost of a sale (-1 unknown) and its basis (0 code, 1 batch, 2 drug)."""
    if code_cost > 0:
        return float(code_cost), 0
    drug_key = stock[key, _PARENT]
    if key != drug_key:
        cost = _cost_of_key(stock, key, date_only)
        if cost >= 0.0:
            return cost, 1
    return _cost_of_key(stock, drug_key, date_only), 2


@leaf
def _buy(stock: npt.NDArray[np.int64], key: np.int64, column: int, price: int, packs: int) -> None:
    """Add a purchase to the day's value and packs that begin at ``column``."""
    stock[key, column] += np.int64(price) * np.int64(packs)
    stock[key, column + 1] += packs


@leaf
def _touch(
    stock: npt.NDArray[np.int64], key: np.int64, touched: npt.NDArray[np.int64], m: int
) -> int:
    """Note ``key`` as touched today if it is not yet; return the number of touched keys."""
    if (stock[key, _SOLD] | stock[key, _DAY_PACKS] | stock[key, _DATED_PACKS]) == 0:
        touched[m] = key
        return m + 1
    return m


@leaf
def _close(stock: npt.NDArray[np.int64], key: np.int64) -> None:
    """Put the day's purchases into the stock of ``key`` and take out what was sold."""
    value = stock[key, _DAY_VALUE] + stock[key, _DATED_VALUE]
    packs = stock[key, _DAY_PACKS] + stock[key, _DATED_PACKS]
    sold = stock[key, _SOLD]
    if stock[key, _PACKS] > 0:
        value += stock[key, _VALUE]
        packs += stock[key, _PACKS]
    if packs > 0:
        if sold >= packs:
            packs = -packs
        elif sold > 0:
            # floor(value × sold / packs) without leaving 64 bits
            value -= (value // packs) * sold + (value % packs) * sold // packs
            packs -= sold
        stock[key, _VALUE] = value
        stock[key, _PACKS] = packs
    for column in range(_DAY_VALUE, _SOLD + 1):
        stock[key, column] = 0


@kernel
def advance_stock(
    time: npt.NDArray[np.int64],
    what: npt.NDArray[np.uint8],
    price: npt.NDArray[np.int32],
    packs: npt.NDArray[np.int32],
    code_cost: npt.NDArray[np.int32],
    ids: npt.NDArray[np.int32],
    stock: npt.NDArray[np.int64],
    touched: npt.NDArray[np.int64],
    tolerance: float,
    fired: npt.NDArray[np.int64],
    fired_cost: npt.NDArray[np.float64],
    fired_basis: npt.NDArray[np.int8],
) -> int:
    """Move the stock over whole days of rows and write what fired; return how many."""
    n = time.shape[0]
    m = 0
    low = 0
    while low < n:
        day_begin = (time[low] // _DAY) * _DAY
        k = 0  # keys touched today
        dated_end = low
        begin = low
        while begin < n and time[begin] < day_begin + _DAY:
            # Purchases of one moment first, then the sales of that moment.
            dated = time[begin] == day_begin
            column = _DATED_VALUE if dated else _DAY_VALUE
            end = begin
            while end < n and time[end] == time[begin]:
                key = np.int64(ids[end])
                k = _touch(stock, key, touched, k)
                if what[end] == PURCHASE:
                    _buy(stock, key, column, price[end], packs[end])
                    drug_key = stock[key, _PARENT]
                    if key != drug_key:
                        k = _touch(stock, drug_key, touched, k)
                        _buy(stock, drug_key, column, price[end], packs[end])
                else:
                    stock[key, _SOLD] += packs[end]
                end += 1
            if dated:
                dated_end = end
            else:
                for i in range(begin, end):
                    if what[i] == JUDGED_SALE:
                        cost, basis = _judge(stock, np.int64(ids[i]), False, code_cost[i])
                        if price[i] < cost * (1.0 - tolerance):
                            fired[m], fired_cost[m], fired_basis[m] = i, cost, basis
                            m += 1
            begin = end
        for i in range(low, dated_end):  # the day's purchases are all known by now
            if what[i] == JUDGED_SALE:
                cost, basis = _judge(stock, np.int64(ids[i]), True, code_cost[i])
                if price[i] < cost * (1.0 - tolerance):
                    fired[m], fired_cost[m], fired_basis[m] = i, cost, basis
                    m += 1
        # What was sold of a batch was sold of the drug; parents may be touched only here.
        batches = k
        for i in range(batches):
            key = touched[i]
            drug_key = stock[key, _PARENT]
            if key != drug_key and stock[key, _SOLD] > 0:
                k = _touch(stock, drug_key, touched, k)
                stock[drug_key, _SOLD] += stock[key, _SOLD]
        for i in range(k):
            _close(stock, touched[i])
        low = begin
    return m

"""What one event does to the line of its code: hops, shipments, receipts, returns and sales.

The steps of the state machine in ``custody``, one function a step (``docs/semantics.md``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core import signals as sig
from trace_engine.core.codetable import (
    ALL,
    DEAD,
    HOP_DATE_ONLY,
    RECALLED,
    SALE_DATE_ONLY,
    SPLIT_OPEN,
)
from trace_engine.core.kernel import leaf, record
from trace_engine.core.owners import (
    Owners,
    owned_before,
    owns_anywhere,
    pop_owner,
    province_of,
    push_owner,
    related,
)
from trace_engine.core.packing import DIRECT
from trace_engine.core.records import Record, Records, Truth
from trace_engine.events.batch import DATE_ONLY, SPLIT_SALE

Ints = npt.NDArray[np.int64]


class Settings(NamedTuple):
    """Policy values custody needs."""

    dwell_seconds: int
    skew_seconds: int
    shipment_days: int
    receipt_days: int


WAITING = record(
    [
        ("row", np.uint32),  # line of the code in its shard's table
        ("seq", np.uint32),  # event that made the hop
        ("day", np.int32),  # days since 2000 on which it was made
        ("serial", np.uint8),  # number of the hop in its line
        ("on_record", np.bool_),  # the stated supplier owned the code on record
    ],
)


@leaf
def certainly_after(
    seconds: np.int64, date_only: bool, earlier: np.int64, earlier_date_only: bool, skew: int
) -> Truth:
    """Whether an event is later than another at every moment both may have happened."""
    if date_only or earlier_date_only:
        return seconds // 86400 > earlier // 86400
    return seconds - earlier > 2 * skew


@leaf
def enqueue(
    queue: Records,
    bounds: Ints,
    row: np.int64,
    seq: np.int64,
    day: np.int64,
    serial: np.uint8,
    on_record: bool,
) -> None:
    """Remember that hop ``serial`` of line ``row`` waits since ``day``."""
    tail = bounds[1]
    entry = queue[tail]
    entry.row = np.uint32(row)
    entry.seq = np.uint32(seq)
    entry.day = np.int32(day)
    entry.serial = serial
    entry.on_record = on_record
    bounds[1] = tail + 1


@leaf
def current_bit(line: Record) -> np.uint8:
    """Bit of the current hop in ``awaits_receipt`` and ``awaits_shipment``; 0 if there is none."""
    return np.uint8(1 << (line.current & 7)) if line.current != 0 else np.uint8(0)


@leaf
def hop(
    line: Record,
    e: Record,
    owners: Owners,
    crossed: Truth,
    settings: Settings,
) -> np.uint32:
    """Push the receiver as owner by a hop and return the signals of it."""
    receiver = e.target
    seconds = np.int64(e.seconds)
    date_only = (e.flags & DATE_ONLY) != 0
    signal = np.uint32(sig.HOP)
    if owned_before(line, owners, receiver):
        signal |= np.uint32(sig.EARLIER_OWNER)
    if crossed:
        signal |= np.uint32(sig.CROSSED)
        if line.crossings < 255:
            line.crossings = np.uint8(line.crossings + 1)
    gap = seconds - np.int64(line.hop_time)
    if date_only:
        gap += 86400
    dead = (line.flags & (DEAD | RECALLED)) != 0
    if line.current != 0 and not dead and gap <= settings.dwell_seconds:
        if line.run < 255:
            line.run = np.uint8(line.run + 1)
    else:
        line.run = np.uint8(1)
    push_owner(line, owners, receiver, True, crossed)
    if line.hops < 255:
        line.hops = np.uint8(line.hops + 1)
    serial = np.uint8(1 if line.next_serial == 255 else line.next_serial + 1)
    line.next_serial = serial
    line.below = line.current
    line.current = serial
    bit = np.uint8(1 << (serial & 7))
    line.awaits_receipt = np.uint8(line.awaits_receipt & ~bit)
    line.awaits_shipment = np.uint8(line.awaits_shipment & ~bit)
    line.hop_time = np.uint32(seconds)
    line.flags = np.uint16(
        (line.flags & (ALL ^ HOP_DATE_ONLY)) | (HOP_DATE_ONLY if date_only else 0)
    )
    line.paid = e.price
    return signal


@leaf
def take_back(line: Record, owners: Owners, receiver: np.int32) -> np.uint32:
    """Move ownership back to ``receiver`` without a hop; return the signals."""
    if receiver < 0:
        return np.uint32(0)
    bit = current_bit(line)
    if line.owner == receiver:
        line.awaits_receipt = np.uint8(line.awaits_receipt & ~bit)
        line.awaits_shipment = np.uint8(line.awaits_shipment & ~bit)
        return np.uint32(0)
    line.paid = np.int32(-1)
    if line.owner >= 0 and line.previous == receiver:
        by_hop = line.hop_bits & np.uint8(1)
        if by_hop != 0:
            if line.hops > 0:
                line.hops = np.uint8(line.hops - 1)
            if (line.crossed_bits & np.uint8(1)) != 0 and line.crossings > 0:
                line.crossings = np.uint8(line.crossings - 1)
        line.awaits_receipt = np.uint8(line.awaits_receipt & ~bit)
        line.awaits_shipment = np.uint8(line.awaits_shipment & ~bit)
        pop_owner(line, owners)
        line.current = line.below
        line.below = np.uint8(0)
        line.run = np.uint8(0)
        return np.uint32(sig.RETURNED)
    push_owner(line, owners, receiver, False, False)
    line.below = line.current
    line.current = np.uint8(0)
    return np.uint32(0)


@leaf
def source_signal(
    line: Record, owners: Owners, parties: Records, giver: np.int32, group: np.int32
) -> np.uint32:
    """Whether the giver may have the code: it owns it, has it in hand, or once owned it."""
    if line.owner < 0:
        return np.uint32(sig.UNKNOWN_SOURCE)
    checked = np.uint32(sig.SOURCE_CHECKED)
    if giver < 0 or related(parties, giver, group, line.owner):
        return checked
    in_hands = line.holder if line.sales == 0 else np.int32(-1)
    if in_hands >= 0 and related(parties, giver, group, in_hands):
        return checked
    if owns_anywhere(line, owners, giver):
        return checked
    return checked | np.uint32(sig.NO_SOURCE)


@leaf
def seller_province(parties: Records, owner: np.int32, e: Record) -> np.int64:
    """Province a hop starts from: the giver's if it is of the owner's house, else the owner's."""
    if e.source >= 0 and related(parties, e.source, e.source_group, owner):
        return np.int64(e.source_province)
    return province_of(parties, owner, e.source, e.source_province)


@leaf
def ship(
    line: Record,
    row: np.int64,
    seq: np.int64,
    e: Record,
    owners: Owners,
    parties: Records,
    settings: Settings,
    waiting: Records,
    bounds: Ints,
) -> np.uint32:
    """Goods sold to another enterprise leave."""
    giver, receiver, price = e.source, e.target, e.price
    signal = np.uint32(0)
    if (e.flags & DIRECT) == 0:
        signal |= source_signal(line, owners, parties, giver, e.source_group)
    if receiver < 0 or receiver == giver:
        if receiver < 0 and line.sales == 0:
            line.holder = np.int32(-1)
        return signal
    bit = current_bit(line)
    if line.owner == receiver:
        line.awaits_shipment = np.uint8(line.awaits_shipment & ~bit)
        if price >= 0:
            line.paid = price
        return signal
    seconds = np.int64(e.seconds)
    day = seconds // 86400
    date_only = (e.flags & DATE_ONLY) != 0
    if (line.awaits_receipt & bit) != 0 and giver >= 0 and line.previous == giver:
        # On its way from this very giver, and now sent elsewhere.
        signal |= np.uint32(sig.REDIRECTED)
        before = np.int64(e.source_province)
        after = e.target_province
        crossed = before > 0 and after > 0 and before != after
        if (line.crossed_bits & np.uint8(1)) != 0 and line.crossings > 0:
            line.crossings = np.uint8(line.crossings - 1)
        line.crossed_bits = np.uint8(line.crossed_bits & ~np.uint8(1))
        if crossed:
            signal |= np.uint32(sig.CROSSED)
            line.crossed_bits = np.uint8(line.crossed_bits | np.uint8(1))
            if line.crossings < 255:
                line.crossings = np.uint8(line.crossings + 1)
        line.owner = receiver
        line.hop_time = np.uint32(seconds)
        line.flags = np.uint16(
            (line.flags & (ALL ^ HOP_DATE_ONLY)) | (HOP_DATE_ONLY if date_only else 0)
        )
        line.paid = price
        if line.sales == 0:
            line.holder = np.int32(-1)
        # Under a new number, so that its old place in the queue falls due for nothing.
        serial = np.uint8(1 if line.next_serial == 255 else line.next_serial + 1)
        line.next_serial = serial
        line.current = serial
        fresh = np.uint8(1 << (serial & 7))
        line.awaits_receipt = np.uint8((line.awaits_receipt & ~bit) | fresh)
        line.awaits_shipment = np.uint8(line.awaits_shipment & ~fresh)
        enqueue(waiting, bounds, row, seq, day, serial, False)
        return signal
    if line.owner < 0 and giver >= 0:
        push_owner(line, owners, giver, False, False)
    if line.owner < 0:
        push_owner(line, owners, receiver, False, False)
    else:
        before = seller_province(parties, line.owner, e)
        after = e.target_province
        crossed = before > 0 and after > 0 and before != after
        signal |= hop(line, e, owners, crossed, settings)
        line.awaits_receipt = np.uint8(line.awaits_receipt | (1 << (line.current & 7)))
        enqueue(waiting, bounds, row, seq, day, line.current, False)
    if line.sales == 0:
        line.holder = np.int32(-1)
    return signal


@leaf
def receive(
    line: Record,
    row: np.int64,
    seq: np.int64,
    e: Record,
    owners: Owners,
    parties: Records,
    settings: Settings,
    waiting: Records,
    bounds: Ints,
) -> np.uint32:
    """Goods bought have arrived."""
    giver, receiver, price = e.source, e.target, e.price
    signal = np.uint32(0)
    if receiver < 0:
        return signal
    if giver == receiver:
        if line.owner < 0:
            push_owner(line, owners, receiver, False, False)
    elif line.owner == receiver or (
        # Bought by one enterprise of a group and delivered to another: a head office's purchase.
        (line.awaits_receipt & current_bit(line)) != 0
        and related(parties, receiver, e.target_group, line.owner)
    ):
        bit = current_bit(line)
        if (line.awaits_receipt & bit) != 0:
            line.awaits_receipt = np.uint8(line.awaits_receipt & ~bit)
            if (
                giver >= 0
                and line.previous >= 0
                and not related(parties, giver, e.source_group, line.previous)
            ):
                signal |= np.uint32(sig.RECEIPT_MISMATCH)
        if price >= 0:
            line.paid = price
    elif (
        line.below != 0
        and line.previous == receiver
        and (line.awaits_receipt & np.uint8(1 << (line.below & 7))) != 0
    ):
        line.awaits_receipt = np.uint8(line.awaits_receipt & ~np.uint8(1 << (line.below & 7)))
        return signal
    elif line.owner < 0 and giver < 0:
        push_owner(line, owners, receiver, False, False)
        line.paid = price
    else:
        on_record = line.owner == giver
        if line.owner < 0:
            push_owner(line, owners, giver, False, False)
        before = seller_province(parties, line.owner, e)
        after = e.target_province
        crossed = before > 0 and after > 0 and before != after
        signal |= hop(line, e, owners, crossed, settings)
        if giver >= 0:
            signal |= np.uint32(sig.RECEIPT_ONLY)
            if on_record:
                signal |= np.uint32(sig.OWNER_ON_RECORD)
            line.awaits_shipment = np.uint8(line.awaits_shipment | (1 << (line.current & 7)))
            enqueue(
                waiting, bounds, row, seq, np.int64(e.seconds) // 86400, line.current, on_record
            )
    if line.sales == 0:
        line.holder = receiver
    return signal


@leaf
def sell(line: Record, e: Record, o: Record, owners: Owners, parties: Records) -> np.uint32:
    """Sold, injected or dispensed to a person."""
    giver, quantity = e.source, np.int64(e.quantity)
    split = (e.flags & SPLIT_SALE) != 0
    sold = line.sales > 0
    if sold and giver == line.holder:
        if split and (line.flags & SPLIT_OPEN) != 0:
            taken = np.int64(line.split_quantity) + quantity
            if e.capacity == 0 or taken <= np.int64(e.capacity):
                line.split_quantity = np.uint8(min(taken, np.int64(255)))
                return np.uint32(0)
        elif e.bill != 0 and e.bill == line.sale_bill:
            return np.uint32(0)
    signal = np.uint32(sig.NEW_SALE) | source_signal(line, owners, parties, giver, e.source_group)
    if sold:
        signal |= np.uint32(sig.REPEAT_SALE)
        o.sale_giver = line.holder
        o.sale_seconds = line.sale_time
        if (line.flags & SALE_DATE_ONLY) != 0:
            signal |= np.uint32(sig.SALE_DATE_ONLY)
    if line.sales < 255:
        line.sales = np.uint8(line.sales + 1)
    if line.owner < 0 and giver >= 0:
        push_owner(line, owners, giver, False, False)
    line.holder = giver
    line.sale_time = e.seconds
    line.sale_bill = e.bill
    line.split_quantity = np.uint8(min(quantity, np.int64(255)))
    flags = line.flags & (ALL ^ (SPLIT_OPEN | SALE_DATE_ONLY))
    if split:
        flags |= SPLIT_OPEN
    if (e.flags & DATE_ONLY) != 0:
        flags |= SALE_DATE_ONLY
    line.flags = np.uint16(flags)
    return signal

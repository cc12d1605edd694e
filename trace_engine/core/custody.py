"""Custody: the state machine of one code, decided here once and nowhere else.

``docs/semantics.md`` says what each event does; this file is that page in numba, and
``tests/reference/custody.py`` is the same page in plain Python.
"""

from __future__ import annotations

import numpy as np

from trace_engine.core import signals as sig
from trace_engine.core.codetable import (
    ALL,
    DEAD,
    HOP_DATE_ONLY,
    LAST_DATE_ONLY,
    LAST_OUTGOING,
    RECALLED,
    SALE_DATE_ONLY,
)
from trace_engine.core.kernel import leaf
from trace_engine.core.movements import (
    Ints,
    Settings,
    certainly_after,
    receive,
    sell,
    ship,
    take_back,
)
from trace_engine.core.owners import Owners, push_owner, related
from trace_engine.core.records import Integer, Record, Records
from trace_engine.events.batch import DATE_ONLY
from trace_engine.events.kinds import Role

_ORIGIN, _SHIP, _RECEIVE = int(Role.ORIGIN), int(Role.SHIP), int(Role.RECEIVE)
_RETURN_SHIP, _RETURN_RECEIVE = int(Role.RETURN_SHIP), int(Role.RETURN_RECEIVE)
_TRANSFER_SHIP, _TRANSFER_RECEIVE = int(Role.TRANSFER_SHIP), int(Role.TRANSFER_RECEIVE)
_PERSON_SALE, _CONSUMER_RETURN = int(Role.PERSON_SALE), int(Role.CONSUMER_RETURN)
_DESTROY, _STOCK_GAIN = int(Role.DESTROY), int(Role.STOCK_GAIN)
_RECALL_SHIP, _RECALL_RECEIVE = int(Role.RECALL_SHIP), int(Role.RECALL_RECEIVE)


@leaf
def apply(
    seq: np.int64,
    row: np.int64,
    line: Record,
    e: Record,
    o: Record,
    owners: Owners,
    parties: Records,
    settings: Settings,
    shipments: Records,
    shipment_bounds: Ints,
    receipts: Records,
    receipt_bounds: Ints,
) -> None:
    """Let event ``e`` act on ``line`` and write what custody says of it to ``o``."""
    role: Integer = np.int64(e.role)
    seconds = np.int64(e.seconds)
    date_only = (e.flags & DATE_ONLY) != 0
    giver, receiver = e.source, e.target
    o.owner_before = line.owner
    o.cost = line.paid if (giver >= 0 and giver == line.owner) else np.int32(-1)
    o.previous = line.last_seq
    line.last_seq = np.uint32(seq)
    signal = np.uint32(0)

    if role == _TRANSFER_SHIP or role == _TRANSFER_RECEIVE:
        foreign = e.source_group >= 0 and e.target_group >= 0 and e.source_group != e.target_group
        if foreign:  # two groups: a sale under another name
            role = _SHIP if role == _TRANSFER_SHIP else _RECEIVE
    moves = role >= _SHIP and role <= _TRANSFER_RECEIVE
    if line.sales > 0 and moves:
        sale_date_only = (line.flags & SALE_DATE_ONLY) != 0
        sale_seconds = np.int64(line.sale_time)
        if certainly_after(seconds, date_only, sale_seconds, sale_date_only, settings.skew_seconds):
            signal |= np.uint32(sig.AFTER_SALE)
            o.sale_giver = line.holder
            o.sale_seconds = line.sale_time
            if sale_date_only:
                signal |= np.uint32(sig.SALE_DATE_ONLY)
    if (line.flags & (DEAD | RECALLED)) != 0:
        if (line.flags & DEAD) != 0:
            barred = moves or role == _PERSON_SALE or role == _CONSUMER_RETURN
        else:
            barred = role == _SHIP or role == _RECEIVE or role == _PERSON_SALE
        died_date_only = (line.flags & HOP_DATE_ONLY) != 0
        if barred and certainly_after(
            seconds, date_only, np.int64(line.hop_time), died_date_only, settings.skew_seconds
        ):
            signal |= np.uint32(sig.AFTER_DEAD)
    since = line.hop_time
    since_date_only = line.flags & HOP_DATE_ONLY

    if role == _ORIGIN:
        if line.owner < 0 and receiver >= 0:
            push_owner(line, owners, receiver, False, False)
        if line.sales == 0 and receiver >= 0:
            line.holder = receiver
    elif role == _SHIP:
        signal |= ship(line, row, seq, e, owners, parties, settings, shipments, shipment_bounds)
    elif role == _RECEIVE:
        signal |= receive(line, row, seq, e, owners, parties, settings, receipts, receipt_bounds)
    elif role == _TRANSFER_SHIP or role == _TRANSFER_RECEIVE:
        if line.owner < 0:
            first = giver if giver >= 0 else receiver
            if first >= 0:
                push_owner(line, owners, first, False, False)
        if receiver >= 0 and line.sales == 0:
            line.holder = receiver
    elif (
        role == _RETURN_SHIP
        or role == _RETURN_RECEIVE
        or role == _RECALL_SHIP
        or role == _RECALL_RECEIVE
    ):
        signal |= take_back(line, owners, receiver)
        if receiver >= 0 and line.sales == 0:
            if role == _RETURN_RECEIVE or role == _RECALL_RECEIVE:
                line.holder = receiver
            else:
                line.holder = np.int32(-1)
        if role == _RECALL_SHIP or role == _RECALL_RECEIVE:
            if (line.flags & (RECALLED | DEAD)) == 0:
                since = np.uint32(seconds)
                since_date_only = np.uint16(HOP_DATE_ONLY if date_only else 0)
            line.flags = np.uint16(line.flags | RECALLED)
    elif role == _PERSON_SALE:
        signal |= sell(line, e, o, owners, parties)
    elif role == _CONSUMER_RETURN:
        if line.sales > 0:
            line.sales = np.uint8(line.sales - 1)
        if receiver >= 0:
            if line.owner != receiver:
                push_owner(line, owners, receiver, False, False)
                line.below = line.current
                line.current = np.uint8(0)
                line.paid = np.int32(-1)
            if line.sales == 0:
                line.holder = receiver
        elif line.sales == 0:
            line.holder = np.int32(-1)
    elif role == _DESTROY:
        if (line.flags & DEAD) == 0:
            since = np.uint32(seconds)
            since_date_only = np.uint16(HOP_DATE_ONLY if date_only else 0)
            line.flags = np.uint16(line.flags | DEAD)
    elif role == _STOCK_GAIN and receiver >= 0:
        if line.owner < 0:
            push_owner(line, owners, receiver, False, False)
        if line.sales == 0 and related(parties, receiver, e.target_group, line.owner):
            line.holder = receiver

    if (line.flags & (DEAD | RECALLED)) != 0:
        # A dead code keeps the time of its death where a live one keeps that of its last hop.
        line.hop_time = since
        line.flags = np.uint16((line.flags & (ALL ^ HOP_DATE_ONLY)) | since_date_only)

    if e.place >= 0:
        if line.place >= 0 and line.place != e.place:
            signal |= np.uint32(sig.PLACED)
            o.last_seconds = line.last_time
            o.last_place = line.place
            if (line.flags & LAST_OUTGOING) != 0:
                signal |= np.uint32(sig.SHIPPED_BETWEEN)
            if (line.flags & LAST_DATE_ONLY) != 0:
                signal |= np.uint32(sig.LAST_DATE_ONLY)
        line.place = e.place
        line.last_time = e.seconds
        flags = line.flags & (ALL ^ (LAST_OUTGOING | LAST_DATE_ONLY))
        if role == _SHIP or role == _RETURN_SHIP or role == _TRANSFER_SHIP or role == _RECALL_SHIP:
            flags |= LAST_OUTGOING
        if date_only:
            flags |= LAST_DATE_ONLY
        line.flags = np.uint16(flags)

    o.signal = signal
    o.hops = line.hops
    o.crossings = line.crossings
    o.run = line.run
    o.sales = line.sales

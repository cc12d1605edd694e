"""Which event of a tie group comes next: the ranks of ``docs/semantics.md``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import leaf
from trace_engine.core.records import Integer, Record, Records
from trace_engine.events.batch import DATE_ONLY
from trace_engine.events.kinds import Role

Ints = npt.NDArray[np.int64]

LARGEST_GROUP = 64
_WAIT = 8

_NONE, _ORIGIN, _SHIP, _RECEIVE = (
    int(Role.NONE),
    int(Role.ORIGIN),
    int(Role.SHIP),
    int(Role.RECEIVE),
)
_RETURN_SHIP, _RETURN_RECEIVE = int(Role.RETURN_SHIP), int(Role.RETURN_RECEIVE)
_TRANSFER_SHIP, _TRANSFER_RECEIVE = int(Role.TRANSFER_SHIP), int(Role.TRANSFER_RECEIVE)
_RECALL_SHIP, _RECALL_RECEIVE = int(Role.RECALL_SHIP), int(Role.RECALL_RECEIVE)
_PERSON_SALE, _CONSUMER_RETURN = int(Role.PERSON_SALE), int(Role.CONSUMER_RETURN)
_DESTROY, _STOCK_CHANGE, _VOID = int(Role.DESTROY), int(Role.STOCK_CHANGE), int(Role.VOID)

_OUTGOING = np.zeros(len(Role), np.bool_)
_OUTGOING[[_SHIP, _RETURN_SHIP, _TRANSFER_SHIP, _RECALL_SHIP, _PERSON_SALE]] = True
_INCOMING = np.zeros(len(Role), np.bool_)
_INCOMING[[_RECEIVE, _RETURN_RECEIVE, _TRANSFER_RECEIVE, _RECALL_RECEIVE]] = True
_BRINGS = np.ones(len(Role), np.bool_)
_BRINGS[[_NONE, _VOID, _DESTROY, _STOCK_CHANGE]] = False


@leaf
def brings_to(
    group: Ints, m: Integer, but: Integer, party: np.int32, sold: bool, events: Records
) -> bool:
    """Whether a remaining event other than ``but`` brings the code to ``party``.

    No person can bring back what is not sold.
    """
    if party < 0:
        return False
    for k in range(m):
        j = group[k]
        if k == but or (events[j].role == _CONSUMER_RETURN and not sold):
            continue
        if events[j].target == party and events[j].source != party and _BRINGS[events[j].role]:
            return True
    return False


@leaf
def reached_again(group: Ints, m: Integer, but: Integer, events: Records) -> bool:
    """Whether the giver of candidate ``but`` can be reached from its receiver by the others."""
    i = group[but]
    giver = events[i].source
    if giver < 0:
        return False
    if events[i].role == _PERSON_SALE:
        for k in range(m):
            j = group[k]
            if events[j].role == _CONSUMER_RETURN and events[j].target == giver:
                return True
        return False
    if events[i].target < 0:
        return False
    reached = np.uint64(0)  # bit by place in the group, which has at most 64
    grown = True
    while grown:
        grown = False
        for k in range(m):
            j = group[k]
            if (
                k == but
                or (reached >> np.uint64(k)) & np.uint64(1) != 0
                or events[j].source < 0
                or events[j].target < 0
            ):
                continue
            if events[j].source == events[j].target:
                continue
            start = events[j].source == events[i].target
            if not start:
                for other in range(m):
                    if (reached >> np.uint64(other)) & np.uint64(1) != 0 and events[
                        group[other]
                    ].target == events[j].source:
                        start = True
                        break
            if start:
                if events[j].target == giver:
                    return True
                reached |= np.uint64(1) << np.uint64(k)
                grown = True
    return False


@leaf
def rank_of(group: Ints, m: Integer, k: Integer, line: Record, events: Records) -> Integer:
    """Rank of candidate ``k`` of a tie group: the smallest goes next."""
    i = group[k]
    role = np.int64(events[i].role)
    giver, receiver = events[i].source, events[i].target
    sold = line.sales > 0
    in_hands = np.int32(-1) if sold else line.holder
    bit = np.uint8(1 << (line.current & 7)) if line.current != 0 else np.uint8(0)
    in_transit = (line.awaits_receipt & bit) != 0
    if role == _ORIGIN:
        return 0
    if _OUTGOING[role]:
        if role == _PERSON_SALE and sold:
            for other in range(m):
                if events[group[other]].role == _CONSUMER_RETURN:
                    return _WAIT
        if giver >= 0 and in_hands == giver:
            alone = True
            for other in range(m):
                j = group[other]
                if other != k and events[j].source == giver and _OUTGOING[events[j].role]:
                    alone = False
                    break
            if alone or reached_again(group, m, k, events):
                return 2
            return 3
        if brings_to(group, m, k, giver, sold, events):
            return _WAIT
        if giver >= 0 and line.owner == giver:
            return 4
        return 5 if line.owner < 0 else 6
    if _INCOMING[role]:
        if in_transit and receiver >= 0 and line.owner == receiver:
            return 1
        for other in range(m):
            j = group[other]
            if (
                other != k
                and receiver >= 0
                and events[j].target == receiver
                and _OUTGOING[events[j].role]
                and (giver < 0 or events[j].source == giver)
            ):
                return _WAIT
        if giver >= 0:
            if in_hands != giver and brings_to(group, m, k, giver, sold, events):
                return _WAIT
            if line.owner == giver or in_hands == giver:
                return 4
        return 5 if line.owner < 0 else 6
    if role == _CONSUMER_RETURN:
        if sold:
            return 1
        for other in range(m):
            if events[group[other]].role == _PERSON_SALE:
                return _WAIT
        return 6
    if role == _DESTROY:
        return 9
    if role == _VOID:
        return 10
    return 7


@leaf
def next_of_group(group: Ints, m: Integer, line: Record, events: Records) -> Integer:
    """Position in ``group`` of the event that comes next."""
    first_timed = np.int64(2**62)
    for k in range(m):
        i = group[k]
        if (events[i].flags & DATE_ONLY) == 0 and events[i].time < first_timed:
            first_timed = events[i].time
    best: Integer = np.int64(-1)
    best_rank: Integer = np.int64(99)
    for k in range(m):
        i = group[k]
        if (events[i].flags & DATE_ONLY) == 0 and events[i].time > first_timed:
            continue
        rank = rank_of(group, m, k, line, events)
        if rank < best_rank or (
            rank == best_rank and events[i].event_key < events[group[best]].event_key
        ):
            best, best_rank = k, rank
    return best

"""What each code first carried: batch number, expiry and drug, and events that say otherwise.

Twelve bytes a code, beside the lines of the code table. Of a code's events by ``(time, event_key)`` the
first that states an attribute tells what it is; the first later one that states another value is a
mismatch. A void that cancels an event of a code makes it forget: what it carries is learned anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf, record
from trace_engine.core.past import last_events, shard_of
from trace_engine.core.records import Integer, Record, Records
from trace_engine.core.signals import VOID_UNMATCHED
from trace_engine.events.batch import (
    DRUG_DECLARED,
    EXPIRY_MONTH_ONLY,
    MISSING_DAY,
)
from trace_engine.events.kinds import CODELESS, EventKind

if TYPE_CHECKING:
    from trace_engine.core.shards import CodeShards, Runner
    from trace_engine.core.signals import Custody
    from trace_engine.events.batch import EventBatch

Int64 = npt.NDArray[np.int64]

FIRST = record(
    [
        ("batch_no", np.int32),  # Vocabulary.batches, -1 none stated yet
        ("expiry", np.int32),  # day × 2 + (1 if only its month was stated), or MISSING_DAY
        ("drug", np.int32),  # (drug + 1) × 8 + attributes of which a mismatch was found
    ],
)
BATCH, EXPIRY, DRUG = 1, 2, 4

_SILENT = np.zeros(len(EventKind), np.bool_)
_SILENT[[EventKind.UNKNOWN, EventKind.VERIFICATION, EventKind.VOID, *CODELESS]] = True
_DECLARED, _MONTH_ONLY = np.uint8(DRUG_DECLARED), np.uint8(EXPIRY_MONTH_ONLY)
_MISSING = np.int32(MISSING_DAY)
_JUDGED = 7  # in RESULT.state: judged with the first event of its time
_VOID, _UNMATCHED = int(EventKind.VOID), np.uint32(VOID_UNMATCHED)


@dataclass(slots=True)
class Mismatches:
    """Events of a slice that state another attribute than the code first carried: ``(m,)``."""

    rows: Int64  # of the slice
    which: npt.NDArray[np.uint8]  # BATCH, EXPIRY, DRUG
    batch_no: npt.NDArray[np.int32]  # what the code first carried; -1 none
    expiry: npt.NDArray[np.int32]  # day, or MISSING_DAY
    drug: npt.NDArray[np.int32]


@leaf
def _month(day: Integer) -> np.int64:
    """Return months since year 0 of a day since 1970-01-01 (proleptic Gregorian calendar)."""
    z = np.int64(day) + 719468
    era = z // 146097
    of_era = z - era * 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    # The year begins in March here.
    return np.int64((year + era * 400) * 12 + month)


@leaf
def _other_expiry(first: Any, day: Any, month_only: bool) -> bool:
    known = np.int64(first >> 1)
    if known == day:
        return False
    return not ((first & 1) != 0 or month_only) or _month(known) != _month(day)


@leaf
def _judge(
    first: Record, batch_no: np.int32, expiry: np.int32, drug: np.int32, flags: np.uint8
) -> np.uint8:
    """Learn what an event states, and return which attributes differ for the first time."""
    found = 0
    fired = first.drug & 7
    if batch_no >= 0:
        if first.batch_no < 0:
            first.batch_no = batch_no
        elif first.batch_no != batch_no:
            found |= BATCH
    if expiry != _MISSING:
        month_only = (flags & _MONTH_ONLY) != 0
        if first.expiry == _MISSING:
            first.expiry = np.int32(2 * expiry + (1 if month_only else 0))
        elif _other_expiry(first.expiry, expiry, month_only):
            found |= EXPIRY
    if (flags & _DECLARED) != 0 and drug >= 0:
        known = (first.drug >> 3) - 1
        if known < 0:
            first.drug = np.int32(((drug + 1) << 3) | fired)
        elif known != drug:
            found |= DRUG
    found &= ~fired
    first.drug = np.int32(first.drug | found)
    return np.uint8(found)


@leaf
def _next_of_time(
    k: Integer, key: np.uint64, any_key: bool, events: Records, results: Records
) -> Integer:
    """Return the event of the code and time of ``k`` whose key comes next after ``key``, or -1."""
    best: Integer = np.int64(-1)
    j: Integer = np.int64(k)
    while j >= 0 and events[j].time == events[k].time:
        later = any_key or events[j].event_key > key
        if later and (best < 0 or events[j].event_key < events[best].event_key):
            best = j
        j = np.int64(results[j].following)
    return best


@leaf
def _learn(
    rows: Int64,
    events: Records,
    results: Records,
    kind: npt.NDArray[np.int8],
    batch_no: npt.NDArray[np.int32],
    expiry: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    flags: npt.NDArray[np.uint8],
    firsts: Records,
    found: Int64,
    which: npt.NDArray[np.uint8],
    before: Records,
) -> int:
    """Judge one shard's events (places in ``rows`` order); return how many differ."""
    n = rows.shape[0]
    m = 0
    for k in range(n):
        o = results[k]
        if o.row == np.uint32(0xFFFFFFFF) or o.state == _JUDGED:
            continue
        i = rows[k]
        following = np.int64(o.following)
        if following < 0 or events[following].time != events[k].time:
            if not _SILENT[kind[i]]:
                differs = _judge(firsts[o.row], batch_no[i], expiry[i], drug[i], flags[i])
                if differs != 0:
                    found[m] = i
                    which[m] = differs
                    before[m] = firsts[o.row]
                    m += 1
            continue
        at = _next_of_time(k, np.uint64(0), True, events, results)
        while at >= 0:
            i = rows[at]
            results[at].state = np.uint8(_JUDGED)
            if not _SILENT[kind[i]]:
                differs = _judge(firsts[o.row], batch_no[i], expiry[i], drug[i], flags[i])
                if differs != 0:
                    found[m] = i
                    which[m] = differs
                    before[m] = firsts[o.row]
                    m += 1
            at = _next_of_time(k, events[at].event_key, False, events, results)
    return m


@kernel
def _learn_rows(
    rows: Int64,
    lines: Int64,
    signal: npt.NDArray[np.uint32],
    kind: npt.NDArray[np.int8],
    batch_no: npt.NDArray[np.int32],
    expiry: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    flags: npt.NDArray[np.uint8],
    firsts: Records,
    found: Int64,
    which: npt.NDArray[np.uint8],
    before: Records,
) -> int:
    """Judge some events in the order given, each of the line given; return how many differ."""
    m = 0
    for k in range(rows.shape[0]):
        i = rows[k]
        if kind[i] == _VOID and (signal[i] & _UNMATCHED) == 0:
            firsts[lines[k]].batch_no = np.int32(-1)
            firsts[lines[k]].expiry = _MISSING
            firsts[lines[k]].drug = np.int32(0)
        if _SILENT[kind[i]]:
            continue
        first = firsts[lines[k]]
        differs = _judge(first, batch_no[i], expiry[i], drug[i], flags[i])
        if differs != 0:
            found[m] = i
            which[m] = differs
            before[m] = first
            m += 1
    return m


class Firsts:
    """What the codes of one shard first carried, by their line."""

    def __init__(self) -> None:
        self.records: Records = np.empty(0, FIRST)
        self.used = 0

    def reserve(self, lines: int) -> None:
        """Make room for ``lines`` lines; new ones carry nothing yet."""
        if lines > len(self.records):
            grown = np.empty(max(lines, 2 * len(self.records), 1 << 12), FIRST)
            grown[: self.used] = self.records[: self.used]
            self.records = grown
        if lines > self.used:
            clear(self.records[self.used : lines])
            self.used = lines

    def room(self, lines: int) -> Records:
        """Hold exactly so many records and return them to be filled."""
        self.records, self.used = np.empty(lines, FIRST), lines
        return self.records

    def restore(self, records: Records) -> None:
        """Hold exactly ``records``."""
        self.room(len(records))[:] = records


def clear(records: Records) -> None:
    """Make ``records`` those of codes that carry nothing yet."""
    records["batch_no"] = -1
    records["expiry"] = MISSING_DAY
    records["drug"] = 0


def learn(
    shards: CodeShards,
    batch: EventBatch,
    custody: Custody,
    run: Runner,
    told: Int64,
) -> None:
    """Judge the attributes of a slice that custody has judged, into ``custody.mismatches``.

    ``told`` are the rows of codes that were told anew, by ``(time, event_key)``.
    """
    stated = (batch.batch_no >= 0).any() or (batch.expiry != MISSING_DAY).any()
    if not stated and not (batch.flags & _DECLARED).any() and len(told) == 0:
        return
    columns = (batch.kind, batch.batch_no, batch.expiry, batch.drug, batch.flags)
    parts: list[tuple[Int64, npt.NDArray[np.uint8], Records]] = []
    for shard in shards.shards:
        shard.firsts.reserve(len(shard.table))

    def one(k: int) -> None:
        mine = slice(int(custody.bounds[k]), int(custody.bounds[k + 1]))
        share = mine.stop - mine.start
        found, which = np.empty(share, np.int64), np.empty(share, np.uint8)
        before: Records = np.empty(share, FIRST)
        m = _learn(
            custody.order[mine],
            custody.events[mine],
            custody.results[mine],
            *columns,
            shards.shards[k].firsts.records,
            found,
            which,
            before,
        )
        parts.append((found[:m].copy(), which[:m].copy(), before[:m].copy()))

    run(one, range(len(shards.shards)))
    codes = batch.code[told]
    lines, _ = last_events(shards, codes)
    of_shard = shard_of(codes)
    for k, shard in enumerate(shards.shards):
        mine = np.flatnonzero((of_shard == k) & (lines >= 0))
        if len(mine):
            found, which = np.empty(len(mine), np.int64), np.empty(len(mine), np.uint8)
            before: Records = np.empty(len(mine), FIRST)
            m = _learn_rows(
                told[mine],
                lines[mine],
                custody.signal,
                *columns,
                shard.firsts.records,
                found,
                which,
                before,
            )
            parts.append((found[:m], which[:m], before[:m]))
    rows = np.concatenate([found for found, _, _ in parts])
    order = np.argsort(rows, kind="stable")
    first = np.concatenate([before for _, _, before in parts])[order]
    custody.mismatches = Mismatches(
        rows[order],
        np.concatenate([which for _, which, _ in parts])[order],
        first["batch_no"],
        np.where(first["expiry"] == MISSING_DAY, MISSING_DAY, first["expiry"] >> 1).astype(
            np.int32
        ),
        ((first["drug"] >> 3) - 1).astype(np.int32),
    )

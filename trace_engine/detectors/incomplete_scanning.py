"""Incomplete scanning 未落实扫码 (C11, C17): receipts hold fewer scans than packs were due.

Definition
----------
Looked at: receipts (role ``RECEIVE``, and the quantity-only remnant receipt 106). Those that state no
``receivable`` are skipped as ``no_receivable`` (what a bill says of itself stands on each of its rows),
those without bill or receiver as ``no_bill``; the others are judged.

*Bill*: the receipts of one receiver under one bill, from the day of the first to ``settle_days`` days
after it (what comes later begins another bill: goods of a split delivery come within days). Its *due* is the
highest ``receivable`` any of them states, its *scanned* the sum of their quantities (each at least 1).
A bill of which a row names a pack level above 1 but stands for one pack is left out: how many packs
that case holds is not known. So is a bill whose due is not above 0.

The bills that began on day S are judged once a receipt of day S + ``settle_days`` or later has been
seen. For each receiver of such a bill: over its bills that began on the days S - days + 1 to S, the
share is the sum of min(scanned, due) / the sum of due.

*Fires* when there are at least ``minimum_bills`` such bills, with at least ``minimum_due`` packs due,
the share is below ``share``, and no firing of that receiver on the ``days`` days before S, or all of
those with a share higher by 0.05 or more. observed = share, threshold = ``share``, both in %. The time
is that of the day S + ``settle_days``. Of the bills begun on S the one that lacks most leads (equal: the
one with the smallest first event key); the bills of the window that lack most are related (at most
16), each by its first event. Subject: the receiver; no counterparty. Severity 0.2 + (``share`` -
share), at most 0.8.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.keys import KeySpace, extended, pair_all
from trace_engine.detectors._scanning import (
    RELATED,
    LastDays,
    days_in,
    optional,
    related_of,
    taken,
)
from trace_engine.detectors.base import (
    Evidence,
    Family,
    Hits,
    KeyedDetector,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import EventKind, Role

Int64 = npt.NDArray[np.int64]

_WORSE = 0.05  # a share lower by this is news

# By bill, in order of their first day.
_BILL_COLUMNS: dict[str, Any] = {
    "day": np.int32,
    "target": np.int32,
    "bill": np.uint64,
    "due": np.int64,
    "scanned": np.int64,
    "unknown": np.bool_,
    "seq": np.int64,
    "event_key": np.uint64,
}


class IncompleteScanningParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`IncompleteScanning`."""

    share: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Share of the packs due that must be scanned",
            extra_json_schema={"unit": "share", "zh": "应扫包装的最低扫码比例"},
        ),
    ] = 0.95
    days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Days over which bills are summed",
            extra_json_schema={"unit": "days", "zh": "统计天数"},
        ),
    ] = 30
    settle_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=60,
            description="Days after its first scan in which the rest of a bill may come",
            extra_json_schema={"unit": "days", "zh": "分批到货等待天数"},
        ),
    ] = 7
    minimum_bills: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100_000,
            description="Fewest bills that say something",
            extra_json_schema={"unit": "bills", "zh": "最少单据数"},
        ),
    ] = 5
    minimum_due: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=10_000_000,
            description="Fewest packs due that say something",
            extra_json_schema={"unit": "packs", "zh": "最少应收包装数"},
        ),
    ] = 100


class IncompleteScanning(KeyedDetector[IncompleteScanningParameters]):
    """Scanned against receivable, by receiver."""

    id: ClassVar[str] = "incomplete_scanning"
    title_zh: ClassVar[str] = "未落实扫码"
    title_en: ClassVar[str] = "Incomplete scanning"
    family: ClassVar[Family] = Family.DATA_QUALITY
    evidence: ClassVar[Evidence] = Evidence.SCANNING
    key: ClassVar[str] = "receiver"
    rows: ClassVar[tuple[str, ...]] = ("C11", "C17")
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：落实出入库扫码核销要求；"
        "《药品管理法》第一百二十七条"
    )
    unit: ClassVar[str] = "%"
    needs: ClassVar[tuple[str, ...]] = ("receivable", "bill_code")
    false_positives: ClassVar[str] = (
        "Split deliveries (a bill is judged some days after it began), packs without codes "
        "counted in a quantity-only bill (they count as scanned), cases of unknown content (left "
        "out), one short delivery (bills and packs are summed over a month). Not kept out: drugs "
        "that need no code yet are due on some bills all the same; ask for the goods before the "
        "habit."
    )
    false_positives_zh: ClassVar[str] = (
        "分批到货（单据开始后满若干天才判定）、只报数量的单据中的无码包装（计入已扫）、内装数不明的整箱（"
        "不计）、个别一次短少（按月合计）。未排除：暂不要求赋码的药品也列入应收数，请先看货再看习惯。"
    )
    parameters: ClassVar[type[Parameters]] = IncompleteScanningParameters
    sentence_zh: ClassVar[str] = (
        "{subject}截至{date}的{window_days}天内{bill_count}张入库单应收{due_packs}个最小包装，实际扫码"
        "{scanned_packs}个，扫码率{observed:.1f}%，低于{threshold:.0f}%。"
    )
    sentence_en: ClassVar[str] = (
        "On {bill_count} receipt bills of the {window_days} days to {date}, {subject} scanned "
        "{scanned_packs} of {due_packs} packs due: {observed:.1f} % (at least {threshold:.0f} %)."
    )

    def select(self, data: Slice, parameters: IncompleteScanningParameters) -> tuple[Rows, Verdict]:
        """Return the receipts of a slice summed by receiver, bill and day."""
        batch = data.batch
        receivable = batch.optional.get("receivable")
        if receivable is None:
            total = data.count_of(Role.RECEIVE)
            nothing = np.empty(0, np.int64)
            return _summed(data, nothing, nothing.astype(np.int32)), Verdict(
                skipped={"no_receivable": total} if total else {}
            )
        rows = data.rows_of(Role.RECEIVE)
        aside = data.rows_of(Role.NONE)
        remnants = aside[batch.kind[aside] == int(EventKind.REMNANT_RECEIPT)]
        # Quantity-only bills count where they say what was due; none of them must.
        rows = np.sort(np.concatenate([rows, remnants[receivable[remnants] >= 0]]))
        stated = rows[receivable[rows] >= 0]
        kept = stated[(batch.bill[stated] != 0) & (batch.target[stated] >= 0)]
        skipped = {"no_receivable": len(rows) - len(stated), "no_bill": len(stated) - len(kept)}
        return _summed(data, kept, optional(data, "receivable", kept)), Verdict(
            judged=len(kept), skipped={reason: n for reason, n in skipped.items() if n}
        )

    def new_state(self) -> State:
        """Return empty state: bills by their first day, and what fired."""
        state: State = {"judged_to": -1, "current": np.empty(0, np.int64)}
        for name, dtype in _BILL_COLUMNS.items():
            state[f"bill_{name}"] = np.empty(0, dtype)
        KeySpace(state, "key")
        _fired(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: IncompleteScanningParameters, last_day: int
    ) -> Hits | None:
        """Take in the receipts day by day and judge the bills that have settled."""
        found: list[tuple[Any, ...]] = []
        for day, today in days_in(rows):
            _take_in(day, today, state, parameters)
            # Later receipts can only add to bills that began later than these.
            found += _judge(day - parameters.settle_days, state, parameters)
            _forget(day, state, parameters)
        if not found:
            return None
        seq, party, begun, scanned, due, bills, related = zip(*found, strict=True)
        m = len(found)
        share = np.array(scanned, np.float64) / np.array(due, np.float64)
        return Hits(
            seq=np.array(seq, np.int64),
            time=(np.array(begun, np.int64) + parameters.settle_days) * DAY,
            observed=share * 100,
            threshold=np.full(m, parameters.share * 100),
            severity=np.clip(0.2 + parameters.share - share, 0, 0.8).astype(np.float32),
            subject=np.array(party, np.int32),
            counterparty=np.full(m, -1, np.int32),
            group=np.ones(m, np.uint64),
            related=related_of(related),
            extra={
                "bill_count": np.array(bills, np.int64),
                "due_packs": np.array(due, np.int64),
                "scanned_packs": np.array(scanned, np.int64),
                "window_days": np.full(m, parameters.days, np.int64),
            },
        )


@kernel
def _sum_bills(
    ids: npt.NDArray[np.int32],
    receivable: npt.NDArray[np.int32],
    packs: Int64,
    unknown: npt.NDArray[np.bool_],
    time: Int64,
    event_key: npt.NDArray[np.uint64],
    due: npt.NDArray[np.int32],
    scanned: Int64,
    bad: npt.NDArray[np.bool_],
    first: Int64,
) -> None:
    """Sum rows by bill; ``first`` gets the row with the smallest (time, event key), -1 before."""
    for i in range(ids.shape[0]):
        bill = ids[i]
        due[bill] = max(due[bill], receivable[i])
        scanned[bill] += packs[i]
        bad[bill] |= unknown[i]
        at = first[bill]
        if at < 0 or (time[i], event_key[i]) < (time[at], event_key[at]):
            first[bill] = i


def _summed(data: Slice, rows: Int64, receivable: npt.NDArray[np.int32]) -> Rows:
    batch = data.batch
    time, event_key = batch.time[rows], batch.event_key[rows]
    target, day = batch.target[rows], np.maximum(time // DAY, data.first_day)
    space = KeySpace({}, "bill")
    ids = space.ids(batch.bill[rows], pair_all(target, day))
    m = len(space)
    unknown = np.zeros(len(rows), np.bool_)
    level = batch.optional.get("pack_level")
    if level is not None:
        unknown = (level[rows] > 1) & (batch.quantity[rows] <= 1)
    packs = np.maximum(batch.quantity[rows], 1).astype(np.int64)
    due, scanned = np.full(m, -1, np.int32), np.zeros(m, np.int64)
    bad, first = np.zeros(m, np.bool_), np.full(m, -1, np.int64)
    _sum_bills(ids, receivable, packs, unknown, time, event_key, due, scanned, bad, first)
    order = np.argsort(time[first], kind="stable")
    first = first[order]
    return {
        "seq": data.seq_base + rows[first],
        "time": time[first],
        "event_key": event_key[first],
        "target": target[first],
        "bill": batch.bill[rows[first]],
        "due": due[order].astype(np.int64),
        "scanned": scanned[order],
        "unknown": bad[order],
    }


def _fired(state: State) -> LastDays:
    return LastDays(state, "fired", {"day": np.int32, "party": np.int32, "share": np.float64})


def _bills(state: State) -> Rows:
    return {name: state[f"bill_{name}"] for name in _BILL_COLUMNS}


def _keys(state: State, bills: Rows) -> npt.NDArray[np.int32]:
    """Return the key of each bill's number and receiver, giving new ones room."""
    space = KeySpace(state, "key")
    nothing = np.full(len(bills["target"]), -1)
    ids = space.ids(bills["bill"], pair_all(bills["target"], nothing))
    state["current"] = extended(state["current"], len(space), -1)
    return ids


def _take_in(day: int, today: Rows, state: State, p: IncompleteScanningParameters) -> None:
    """Add the sums of a day to their bills, beginning those that are not open."""
    order = np.lexsort((today["event_key"], today["time"]))
    today = taken(today, order)
    keys = _keys(state, today)
    bills = _bills(state)
    at = state["current"][keys]
    begun = len(bills["day"])
    closed = at < 0
    closed[~closed] = day > bills["day"][at[~closed]] + p.settle_days
    fresh, first = np.unique(keys[closed], return_index=True)
    first = np.flatnonzero(closed)[first]  # the earliest row of each: rows stand by time
    state["current"][fresh] = begun + np.arange(len(fresh))
    new = {name: today[name][first] for name in ("target", "bill", "seq", "event_key")}
    new |= {
        "day": np.full(len(fresh), day),
        "due": np.full(len(fresh), -1),
        "scanned": np.zeros(len(fresh), np.int64),
        "unknown": np.zeros(len(fresh), np.bool_),
    }
    for name, column in bills.items():
        bills[name] = np.concatenate([column, new[name].astype(column.dtype)])
        state[f"bill_{name}"] = bills[name]
    at = state["current"][keys]
    np.maximum.at(bills["due"], at, today["due"])
    np.add.at(bills["scanned"], at, today["scanned"])
    np.logical_or.at(bills["unknown"], at, today["unknown"])


def _forget(day: int, state: State, p: IncompleteScanningParameters) -> None:
    """Drop bills that no window holds any more, once they are half of all."""
    bills = _bills(state)
    old = int(np.searchsorted(bills["day"], day - p.settle_days - p.days))
    if old < 1000 or 2 * old < len(bills["day"]):
        return
    for name, column in bills.items():
        state[f"bill_{name}"] = bills[name] = column[old:].copy()
    for name in [name for name in state if name.startswith("key_")]:
        del state[name]
    state["current"] = np.empty(0, np.int64)
    keys = _keys(state, bills)
    state["current"][keys] = np.arange(len(keys))  # of several, the latest


def _judge(until: int, state: State, p: IncompleteScanningParameters) -> list[tuple[Any, ...]]:
    """Judge the receivers of bills that began on the days up to ``until``, day by day."""
    bills, fired = _bills(state), _fired(state)
    counted = (bills["due"] > 0) & ~bills["unknown"]
    pending = (bills["day"] > state["judged_to"]) & (bills["day"] <= until)
    state["judged_to"] = max(until, state["judged_to"])
    found: list[tuple[Any, ...]] = []
    for day in np.unique(bills["day"][pending & counted]).tolist():
        fired.forget(day - p.days)
        begin, end = np.searchsorted(bills["day"], [day - p.days + 1, day + 1]).tolist()
        window = begin + np.flatnonzero(counted[begin:end])
        party, due = bills["target"][window], bills["due"][window]
        scanned = np.minimum(bills["scanned"][window], due)
        # Sums of whole numbers below 2^53 are exact.
        all_due = np.bincount(party, due).astype(np.int64)
        all_scanned = np.bincount(party, scanned).astype(np.int64)
        number = np.bincount(party)
        today = np.unique(party[bills["day"][window] == day])
        enough = (number[today] >= p.minimum_bills) & (all_due[today] >= p.minimum_due)
        short = all_scanned[today] / np.maximum(all_due[today], 1) < p.share
        for who in today[enough & short].tolist():
            share = all_scanned[who] / all_due[who]
            past = fired.rows
            before = past["share"][past["party"] == who]
            if len(before) and share > before.min() - _WORSE:
                continue
            fired.add(
                {"day": np.array([day]), "party": np.array([who]), "share": np.array([share])}
            )
            mine = window[party == who]
            lacks = (due - scanned)[party == who]
            order = np.lexsort((bills["event_key"][mine], -lacks))
            ranked = mine[order]
            lead = ranked[bills["day"][ranked] == day][0]
            others = ranked[(ranked != lead) & (lacks[order] > 0)]
            found.append(
                (
                    int(bills["seq"][lead]),
                    who,
                    day,
                    int(all_scanned[who]),
                    int(all_due[who]),
                    int(number[who]),
                    bills["seq"][others[:RELATED]],
                )
            )
    return found

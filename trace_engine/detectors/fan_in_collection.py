"""Fan-in collection 收药/归集 (G5, G6): one buyer gathers a drug from many shops and clinics.

Definition
----------
Looked at is trade (see :mod:`trace_engine.detectors._trade`) whose giver is registered as a pharmacy,
chain store or medical institution; trade of a giver of unknown type is skipped as ``type_unknown``,
without a drug as ``no_drug``. Givers of one registered group (a chain that is being wound up, say)
count as one *source*.

On each day D on which a buyer bought a drug so, its sources of that drug on the days D - days + 1 to D
are counted. *Fires* when they are at least ``sources`` and more than they were at its last such day,
unless they have been fewer than ``sources`` since. Whole days are counted, so a date without a time
counts as any other.

observed = sources, threshold = ``sources``. amount: what it paid for the drug in those days. Subject: the
buyer; no counterparty. The last scan of D
(by time, then event key) leads and gives the time; the latest of each other source is evidence (at
most 16, latest first). Severity 0.6 + 0.02 for each source over the threshold, at most 0.9.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._scanning import RELATED, LastDays, days_in, related_of
from trace_engine.detectors._shared import parties_of_type
from trace_engine.detectors._trade import COLUMNS, bill_edges, trade_rows, trades
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
from trace_engine.registry.types import MEDICAL_TYPES, RETAIL_TYPES

Int64 = npt.NDArray[np.int64]

_RETAIL_LEVEL = [int(t) for t in RETAIL_TYPES | MEDICAL_TYPES]

_DTYPES: dict[str, Any] = {**COLUMNS, "source_group": np.int32, "day": np.int64}
_PEAKS: dict[str, Any] = {
    "day": np.int64,
    "target": np.int32,
    "drug": np.int32,
    "sources": np.int64,
}


class FanInCollectionParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`FanInCollection`."""

    sources: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=10_000,
            description="Shops and clinics that a buyer gathers one drug from",
            extra_json_schema={"unit": "enterprises", "zh": "同一品种的零售或使用环节来源数"},
        ),
    ] = 10
    days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Days within which they count",
            extra_json_schema={"unit": "days", "zh": "统计天数"},
        ),
    ] = 30


class FanInCollection(KeyedDetector[FanInCollectionParameters]):
    """Sources at the retail level, by buyer and drug."""

    id: ClassVar[str] = "fan_in_collection"
    title_zh: ClassVar[str] = "收药/归集"
    title_en: ClassVar[str] = "Collecting from shops and clinics"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.NETWORK
    key: ClassVar[str] = "buyer and drug"
    rows: ClassVar[tuple[str, ...]] = ("G5", "G6")
    basis: ClassVar[str] = (
        "《药品管理法》第五十五条；药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：从非法渠道购进药品"
    )
    unit: ClassVar[str] = "sources"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises.type", "from_id", "to_id")
    answerable = "receiver"
    false_positives: ClassVar[str] = (
        "Returns to a distributor (202/103, no trade), recalled goods (211/108), transfers and sales "
        "inside one group (left out), a chain whose shops sell off their stock (one source)."
    )
    false_positives_zh: ClassVar[str] = (
        "退回上游企业（202/103，不是购销）、召回药品（211/108）、同一集团内部的调拨和销售（不计）、"
        "连锁企业清理各门店库存（整个连锁算一个来源）。"
    )
    parameters: ClassVar[type[Parameters]] = FanInCollectionParameters
    sentence_zh: ClassVar[str] = (
        "{subject}截至{date}的{window_days}天内从{observed:.0f}家零售或使用环节单位收购{drug}共"
        "{bought_packs}个最小包装（达到{threshold:.0f}家即触发），涉嫌回收、归集药品。流向：{flow}。"
    )
    sentence_en: ClassVar[str] = (
        "In the {window_days} days to {date}, {subject} bought {bought_packs} pack(s) of {drug} from "
        "{observed:.0f} shops, clinics or hospitals (threshold {threshold:.0f}): it may be collecting "
        "medicines that were already dispensed. Flow: {flow}."
    )

    def select(self, data: Slice, parameters: FanInCollectionParameters) -> tuple[Rows, Verdict]:
        """Return the bill edges whose giver is at the retail level."""
        view = data.registry
        # Of unknown type are taken too, to be counted.
        looked_at = parties_of_type(data, [*_RETAIL_LEVEL, 0])
        hops, (trade, no_drug, _) = trades(data, looked_at)
        kind = view.party_type[data.batch.source[hops]]
        unknown = int(np.count_nonzero(kind == 0))
        rows = trade_rows(data, hops[kind != 0])
        rows["source_group"] = view.party_group[rows["source"]]
        skipped = {"type_unknown": unknown, "no_drug": int(no_drug)}
        return rows, Verdict(
            judged=int(trade - no_drug) - unknown,
            skipped={reason: n for reason, n in skipped.items() if n},
        )

    def new_state(self) -> State:
        """Return empty state: bill edges of the last days, and how far keys had come."""
        state: State = {}
        LastDays(state, "edges", _DTYPES)
        LastDays(state, "peaks", _PEAKS)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: FanInCollectionParameters, last_day: int
    ) -> Hits | None:
        """Count sources day by day."""
        if len(rows["time"]) == 0:
            return None
        found: list[tuple[Any, ...]] = []
        for day, today in days_in(bill_edges(rows)):
            edges, peaks = LastDays(state, "edges", _DTYPES), LastDays(state, "peaks", _PEAKS)
            edges.forget(day - parameters.days + 1)
            peaks.forget(day - parameters.days)
            edges.add({**today, "day": np.full(len(today["time"]), day)})
            found += _judge_day(day, edges.rows, peaks, parameters)
        if not found:
            return None
        seq, time, party, sources, packs, amount, related = zip(*found, strict=True)
        m = len(found)
        observed = np.array(sources, np.float64)
        return Hits(
            seq=np.array(seq, np.int64),
            time=np.array(time, np.int64),
            observed=observed,
            threshold=np.full(m, float(parameters.sources)),
            severity=np.clip(0.6 + 0.02 * (observed - parameters.sources), 0, 0.9).astype(
                np.float32
            ),
            subject=np.array(party, np.int32),
            counterparty=np.full(m, -1, np.int32),
            amount=np.array(amount, np.int64),
            group=np.ones(m, np.uint64),
            related=related_of(related),
            extra={
                "bought_packs": np.array(packs, np.int64),
                "window_days": np.full(m, parameters.days, np.int64),
            },
        )


def _judge_day(
    day: int, edges: Rows, peaks: LastDays, p: FanInCollectionParameters
) -> list[tuple[Any, ...]]:
    """Judge every buyer and drug of ``day``; ``edges`` are those of the window, by time."""
    found: list[tuple[Any, ...]] = []
    today = edges["day"] == day
    # A party without a group is a source of its own: groups and parties do not share numbers.
    of_group = edges["source_group"]
    source = np.where(of_group >= 0, -1 - of_group.astype(np.int64), edges["source"])
    keys = np.unique(np.column_stack([edges["target"][today], edges["drug"][today]]), axis=0)
    for target, drug in keys.tolist():
        mine = np.flatnonzero((edges["target"] == target) & (edges["drug"] == drug))
        count = len(np.unique(source[mine]))
        past = peaks.rows
        before = past["sources"][(past["target"] == target) & (past["drug"] == drug)]
        peaks.add(
            {
                "day": np.array([day]),
                "target": np.array([target]),
                "drug": np.array([drug]),
                "sources": np.array([count if count >= p.sources else 0]),
            }
        )
        if count < p.sources or (len(before) and count <= before[-1]):
            continue
        # Latest first; the first of each source stands for it.
        mine = mine[np.lexsort((edges["event_key"][mine], edges["time"][mine]))][::-1]
        _, first = np.unique(source[mine], return_index=True)
        others = mine[np.sort(first)]
        lead = int(mine[0])
        found.append(
            (
                int(edges["seq"][lead]),
                int(edges["time"][lead]),
                target,
                count,
                int(edges["packs"][mine].sum()),
                int(edges["amount"][mine].sum()),
                edges["seq"][others[others != lead][:RELATED]],
            )
        )
    return found

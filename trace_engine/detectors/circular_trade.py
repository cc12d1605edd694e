"""Circular trade 环形交易 (G4): goods of one drug are sold round a ring of companies.

Definition
----------
Edges are the bill edges of :mod:`trace_engine.detectors._trade` (trade between strangers; hops that
name no drug are skipped as ``no_drug``). A *ring* is a cycle of bill edges of one drug:

* each edge begins where the one before ended, and the last ends where the first began; ``fewest`` to
  ``enterprises`` different enterprises;
* each edge is certainly later than the one before: a later time, or where either states only a date,
  a later day;
* from the first to the last no more than ``days`` days, whatever the moments of dates were;
* the smallest number of packs on an edge is at least ``ratio`` of the largest.

The codes need not be the same: those that come back themselves are ``ownership_cycle``.

*Fires* at each bill edge that closes a ring, so again at each further round. Of several rings that it
closes, the one of the highest ratio counts (then the shortest, then that whose edges came first).
observed = that ratio, threshold = ``ratio``; amount: what the goods of the closing bill cost. Subject:
the giver of the closing bill, counterparty its receiver; all edges are evidence. Closing bills of one
day with equal sides, drug and batch number are one finding. Severity 0.5 + 0.3 · ratio, at most 0.8.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.keys import pair_all
from trace_engine.detectors._scanning import days_in, taken
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
from trace_engine.events.batch import DAY
from trace_engine.graph.cycles import Cycles, temporal_cycles

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_MOST_ENTERPRISES = 8
# Rings looked at on one day; a day that closes more is told by those found first.
_MOST_RINGS = 200_000


class CircularTradeParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`CircularTrade`."""

    enterprises: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=_MOST_ENTERPRISES,
            description="Most enterprises of a ring",
            extra_json_schema={"unit": "enterprises", "zh": "环上企业数上限"},
        ),
    ] = 5
    fewest: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=_MOST_ENTERPRISES,
            description="Fewest enterprises of a ring (two may be helping each other out)",
            extra_json_schema={"unit": "enterprises", "zh": "环上企业数下限"},
        ),
    ] = 3
    days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Days within which goods go round",
            extra_json_schema={"unit": "days", "zh": "环形流转的天数上限"},
        ),
    ] = 30
    ratio: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Least share of the largest quantity on the ring that every bill carries",
            extra_json_schema={"unit": "share", "zh": "环上最小数量与最大数量之比"},
        ),
    ] = 0.3


class CircularTrade(KeyedDetector[CircularTradeParameters]):
    """Rings of bills, by drug."""

    id: ClassVar[str] = "circular_trade"
    title_zh: ClassVar[str] = "环形交易"
    title_en: ClassVar[str] = "Circular trade"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.NETWORK
    key: ClassVar[str] = "drug"
    rows: ClassVar[tuple[str, ...]] = ("G4",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：追溯信息显示多次倒手、流向异常的药品"
    )
    unit: ClassVar[str] = "share of the largest quantity"
    needs: ClassVar[tuple[str, ...]] = ("from_id", "to_id", "registry.enterprises.group_id")
    false_positives: ClassVar[str] = (
        "Returns and recalls (no hop), transfers and sales inside one registered group (left "
        "out), two companies that help each other out with stock (three at least), small "
        "remnants on one side (quantities must be alike), dates without a time (the next sale "
        "must be on a later day). Not kept out: groups that the register does not know look like "
        "strangers; check that first."
    )
    false_positives_zh: ClassVar[str] = (
        "退货与召回（不算易手）、同一登记集团内部的调拨和销售（不计）、两家企业互相调剂库存（"
        "至少三家成环）、一侧仅有零头（各环节数量须相近）、只有日期没有时刻的单据（须晚一天）。"
        "名录未登记的集团关系看上去与无关联企业相同，请先核对。"
    )
    parameters: ClassVar[type[Parameters]] = CircularTradeParameters
    sentence_zh: ClassVar[str] = (
        "截至{date}的{window_days}天内，{drug}在{ring_size}家互无集团关系的企业之间依次销售并回到起点"
        "（环形交易），最后一环由{subject}销售给{counterparty}；各环节数量之比（最小/最大）为{observed:.2f}，"
        "不低于{threshold:.2f}。流向：{flow}。"
    )
    sentence_en: ClassVar[str] = (
        "Within {window_days} days to {date}, {drug} was sold round a ring of {ring_size} unrelated "
        "companies, closed by {subject}'s sale to {counterparty}; the smallest quantity on it is "
        "{observed:.2f} of the largest (at least {threshold:.2f}). Flow: {flow}."
    )

    def select(self, data: Slice, parameters: CircularTradeParameters) -> tuple[Rows, Verdict]:
        """Return the bill edges of a slice."""
        hops, counts = trades(data)
        no_drug = int(counts[1])
        return trade_rows(data, hops), Verdict(
            judged=len(hops), skipped={"no_drug": no_drug} if no_drug else {}
        )

    def new_state(self) -> State:
        """Return empty state: the bill edges of the window."""
        return {name: np.empty(0, dtype) for name, dtype in COLUMNS.items()}

    def advance(
        self, rows: Rows, state: State, parameters: CircularTradeParameters, last_day: int
    ) -> Hits | None:
        """Judge the bill edges day by day."""
        if len(rows["time"]) == 0:
            return None
        old = int(np.searchsorted(state["time"], (_day(rows["time"][0]) - parameters.days) * DAY))
        new = bill_edges({name: rows[name] for name in COLUMNS})
        pool = {name: np.concatenate([state[name][old:], new[name]]) for name in COLUMNS}
        found: list[Hits] = []
        possible = _on_two_sides(pool)
        for day, _ in days_in(taken(new, _on_two_sides(new, pool))):
            hits = _judge(taken(pool, possible), day, parameters)
            if hits is not None:
                found.append(hits)
        old = int(np.searchsorted(pool["time"], (last_day + 1 - parameters.days) * DAY))
        state.update({name: pool[name][old:] for name in COLUMNS})
        return _joined(found)


def _day(time: Any) -> int:
    return int(time // DAY)


def _on_two_sides(edges: Rows, among: Rows | None = None) -> npt.NDArray[np.bool_]:
    """Return which edges have a giver that buys and a receiver that sells (``among`` others)."""
    pool = edges if among is None else among
    parties = 1 + int(max(pool["source"].max(initial=-1), pool["target"].max(initial=-1)))
    buys, sells = np.zeros(parties, np.bool_), np.zeros(parties, np.bool_)
    buys[pool["target"]] = True
    sells[pool["source"]] = True
    found: npt.NDArray[np.bool_] = buys[edges["source"]] & sells[edges["target"]]
    return found


def _judge(pool: Rows, day: int, p: CircularTradeParameters) -> Hits | None:
    """Return the hits of the bill edges of ``day``; ``pool``: bill edges by (time, event key)."""
    begin, end = np.searchsorted(pool["time"], [(day - p.days) * DAY, (day + 1) * DAY]).tolist()
    edges = {name: column[begin:end] for name, column in pool.items()}
    m = end - begin
    ends = np.concatenate(
        [pair_all(edges["source"], edges["drug"]), pair_all(edges["target"], edges["drug"])]
    )
    vertex = np.unique(ends, return_inverse=True)[1].astype(np.int32)
    cycles = temporal_cycles(
        vertex[:m], vertex[m:], edges["time"], p.days * DAY,
        longest=p.enterprises, amount=edges["packs"], least_ratio=p.ratio, most=_MOST_RINGS,
        closed_from=day * DAY,
    )  # fmt: skip
    if len(cycles) == 0:
        return None
    best, share = _best_by_closing_edge(cycles, edges, p)
    if len(best) == 0:
        return None
    size = cycles.lengths[best]
    related = np.full((len(best), _MOST_ENTERPRISES - 1), -1, np.int64)
    for i, (begin, k) in enumerate(zip(cycles.offsets[best].tolist(), size.tolist(), strict=True)):
        related[i, : k - 1] = edges["seq"][cycles.edges[begin : begin + k - 1]]
    closing = cycles.edges[cycles.offsets[best + 1] - 1]
    return Hits(
        seq=edges["seq"][closing],
        time=edges["time"][closing],
        observed=share,
        threshold=np.full(len(best), p.ratio),
        severity=np.minimum(0.5 + 0.3 * share, 0.8).astype(np.float32),
        subject=edges["source"][closing],
        counterparty=edges["target"][closing],
        amount=edges["amount"][closing],
        group=np.ones(len(best), np.uint64),
        related=related,
        extra={"ring_size": size, "window_days": np.full(len(best), p.days)},
    )


def _best_by_closing_edge(
    cycles: Cycles, edges: Rows, p: CircularTradeParameters
) -> tuple[Int64, Float64]:
    """Return the cycle that counts for each closing edge, and its ratio."""
    time, starts, length = edges["time"][cycles.edges], cycles.offsets[:-1], cycles.lengths
    dated = time % DAY == 0
    day = time // DAY
    # Times increase; where one of two is a date alone, the days must.
    certain = np.append((day[1:] > day[:-1]) | ~(dated[1:] | dated[:-1]), True)
    certain[cycles.offsets[1:] - 1] = True  # the next edge is another cycle's
    sure = np.logical_and.reduceat(certain, starts)
    last = cycles.offsets[1:] - 1
    span = time[last] + np.where(dated[last], DAY - 1, 0) - time[starts]
    kept = np.flatnonzero(sure & (span <= p.days * DAY) & (length >= p.fewest))
    least, largest = cycles.range_of(edges["packs"])
    share = least[kept] / largest[kept]
    # Equal ones in the order of their edges, which stand by (time, event key).
    way = np.full((len(kept), _MOST_ENTERPRISES), -1, np.int64)
    for i, k in enumerate(kept.tolist()):
        way[i, : length[k]] = cycles.edges[cycles.offsets[k] : cycles.offsets[k + 1]]
    closing = cycles.edges[last[kept]]
    order = np.lexsort((*way.T[::-1], length[kept], -share, closing))
    first = np.flatnonzero(np.diff(closing[order], prepend=-1))
    return kept[order[first]], share[order[first]]


def _joined(found: list[Hits]) -> Hits | None:
    """Return the hits of several days as one."""
    if len(found) <= 1:
        return found[0] if found else None

    def join(name: str) -> Any:
        return np.concatenate([getattr(hits, name) for hits in found])

    return Hits(
        **{
            name: join(name)
            for name in (
                "seq", "time", "observed", "threshold", "severity", "subject", "counterparty",
                "group", "related", "amount",
            )
        },
        extra={
            name: np.concatenate([hits.extra[name] for hits in found]) for name in found[0].extra
        },
    )  # fmt: skip

"""Disjoint business 挂靠 (G9): under one licence, businesses that have nothing in common.

Definition
----------
Needs ``registry.enterprises`` (else all are skipped as ``no_registry``). Looked at: shipments and
receipts (roles ``SHIP`` and ``RECEIVE``). *Worked at* X is defined in ``_scanning``; the other side is
its *counterparty*. Skipped, in this order: without device and operator (``no_device``); where giver or
receiver is not known, or both are one enterprise or of one group (``no_counterparty``); where X is not
registered or has a warehouse registered in another region (``several_places``: branches have their own
customers, people and devices). The rest is judged for each enterprise X.

*Dealing*: a counterparty, device, operator, direction and day of X. Look at the dealings of X on the
days D - days + 1 to D as a graph whose nodes are its counterparties, devices and operators: a dealing
joins those it names. A connected component is a *business* when it holds at least ``suppliers``
enterprises X received from, at least ``customers`` it shipped to and at least ``dealings`` *repeated*
dealings: dealings beyond the first of each counterparty. (Each of those could have gone through other
hands; counterparties dealt with once say nothing.) Two
businesses *compete* when at least ``drugs`` drugs occur in both: divisions of one firm divide the goods,
or share the suppliers.

X is judged on days on which it has dealings, but not within the ``pause_days`` - 1 days after it was
judged, and not before the day ``days`` - 1 days after its first dealing: until then two halves of one
business may only not have met yet.

*Fires* when at least 2 businesses each compete with another one, and they are more than at any firing
of X on the ``days`` days before. observed = such businesses, threshold = 2. The events are the first
ones (by time, event key) of dealings of the smallest of these businesses (fewest dealings; equal: the
one whose first event key is smaller): the first leads, up to 16 more are related. The time is that of
D. Subject X; no counterparty, no amount. Severity 0.6 + 0.1 × (businesses - 2), at most 0.9.
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
    earliest,
    instrument_rows,
    optional,
    related_of,
    runs,
    taken,
    worked_at,
)
from trace_engine.detectors.base import (
    ROLE_OF,
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
from trace_engine.events.kinds import Role

Int64 = npt.NDArray[np.int64]

_COLUMNS: dict[str, Any] = {
    "day": np.int32,
    "worked_party": np.int32,
    "other_party": np.int32,
    "device": np.int32,
    "operator": np.int32,
    "drug": np.int32,
    "bought": np.bool_,
    "seq": np.int64,
    "time": np.int64,
    "event_key": np.uint64,
}


class DisjointBusinessParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`DisjointBusiness`."""

    days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Days over which dealings are joined",
            extra_json_schema={"unit": "days", "zh": "统计天数"},
        ),
    ] = 30
    suppliers: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="Fewest suppliers of a business of its own",
            extra_json_schema={"unit": "enterprises", "zh": "独立业务的最少供货方数"},
        ),
    ] = 1
    customers: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="Fewest customers of a business of its own",
            extra_json_schema={"unit": "enterprises", "zh": "独立业务的最少客户数"},
        ),
    ] = 3
    dealings: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100_000,
            description="Fewest repeated dealings of a business of its own",
            extra_json_schema={"unit": "dealings", "zh": "独立业务的最少重复往来次数"},
        ),
    ] = 10
    drugs: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=10_000,
            description="Drugs that two businesses under one licence must both trade in",
            extra_json_schema={"unit": "drugs", "zh": "两个业务共同经营的最少品种数"},
        ),
    ] = 1
    pause_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Days from one judgement of an enterprise to the next",
            extra_json_schema={"unit": "days", "zh": "同一企业两次判定的间隔天数"},
        ),
    ] = 7


class DisjointBusiness(KeyedDetector[DisjointBusinessParameters]):
    """Components of counterparties, devices and operators, by enterprise."""

    id: ClassVar[str] = "disjoint_business"
    title_zh: ClassVar[str] = "挂靠经营"
    title_en: ClassVar[str] = "Separate businesses under one licence"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.NETWORK
    key: ClassVar[str] = "enterprise"
    rows: ClassVar[tuple[str, ...]] = ("G9",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：为违法经营提供场所、资质文件、"
        "票据等便利"
    )
    unit: ClassVar[str] = "businesses"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "device_id or operator_id")
    false_positives: ClassVar[str] = (
        "Divisions of one firm: those that divide the goods trade in other drugs (the drugs must "
        "be the same), those that divide the customers share a supplier, a device or an operator "
        "with the others, and those with a warehouse elsewhere stand in the register (left out). "
        "Two halves that have only not met yet (nothing is judged before a whole window has "
        "passed)."
    )
    false_positives_zh: ClassVar[str] = (
        "同一企业的分部：按品类分工的各部经营品种不同（须经营相同品种），按客户分工的各部共用供货方、"
        "设备或操作员，在外地设库的已登记仓库（不计）。两部分业务只是尚未交会：未满一个完整统计期不判定。"
    )
    parameters: ClassVar[type[Parameters]] = DisjointBusinessParameters
    sentence_zh: ClassVar[str] = (
        "{subject}截至{date}的{window_days}天内经营分为{observed:.0f}个互不相交的业务，各有供货方、客户、"
        "操作员和设备，却经营相同品种；最小的一个有{supplier_count}家供货方、{customer_count}家客户、"
        "{dealing_count}次往来，疑似挂靠经营。"
    )
    sentence_en: ClassVar[str] = (
        "In the {window_days} days to {date} the trade of {subject} falls into {observed:.0f} "
        "businesses that share no supplier, customer, operator or device, yet trade in the same "
        "drugs; the smallest has {supplier_count} supplier(s), {customer_count} customer(s) and "
        "{dealing_count} dealings. Others probably trade under its licence."
    )

    def select(self, data: Slice, parameters: DisjointBusinessParameters) -> tuple[Rows, Verdict]:
        """Return the dealings of a slice: one row for each, and drug."""
        batch, view = data.batch, data.registry
        rows, skipped = instrument_rows(data, Role.SHIP, Role.RECEIVE)
        source, target = batch.source[rows], batch.target[rows]
        group = np.append(view.party_group, -1)
        apart = (source != target) & ((group[source] != group[target]) | (group[source] < 0))
        dealt = rows[(source >= 0) & (target >= 0) & apart]
        one_place = np.append(view.party_known & view.party_single_place, False)
        kept = dealt[one_place[worked_at(data, dealt)]]
        skipped |= {
            "no_counterparty": len(rows) - len(dealt),
            "several_places": len(dealt) - len(kept),
        }
        return _dealings(data, kept), Verdict(
            judged=len(kept), skipped={reason: n for reason, n in skipped.items() if n}
        )

    def new_state(self) -> State:
        """Return empty state: dealings of the last days, and when each enterprise was seen."""
        state: State = {"first_day": np.empty(0, np.int64), "last_judged": np.empty(0, np.int64)}
        _recent(state)
        _fired(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: DisjointBusinessParameters, last_day: int
    ) -> Hits | None:
        """Judge, day by day, the enterprises whose turn it is."""
        found: list[tuple[Any, ...]] = []
        for day, today in days_in(rows):
            found += _judge_day(day, today, state, parameters)
        if not found:
            return None
        seq, party, day_of, businesses, sizes, related = zip(*found, strict=True)
        m, count = len(found), np.array(businesses, np.float64)
        suppliers, customers, dealings = (np.array(c, np.int64) for c in zip(*sizes, strict=True))
        return Hits(
            seq=np.array(seq, np.int64),
            time=np.array(day_of, np.int64) * DAY,
            observed=count,
            threshold=np.full(m, 2.0),
            severity=np.clip(0.6 + 0.1 * (count - 2), 0, 0.9).astype(np.float32),
            subject=np.array(party, np.int32),
            counterparty=np.full(m, -1, np.int32),
            amount=np.zeros(m, np.int64),
            group=np.ones(m, np.uint64),
            related=related_of(related),
            extra={
                "supplier_count": suppliers,
                "customer_count": customers,
                "dealing_count": dealings,
                "window_days": np.full(m, parameters.days, np.int64),
            },
        )


def _recent(state: State) -> LastDays:
    return LastDays(state, "dealing", _COLUMNS)


def _fired(state: State) -> LastDays:
    return LastDays(state, "fired", {"day": np.int32, "party": np.int32, "count": np.int64})


def _dealings(data: Slice, rows: Int64) -> Rows:
    """Return one row for each dealing and drug: its first event."""
    batch = data.batch
    party = worked_at(data, rows)
    source, target = batch.source[rows], batch.target[rows]
    columns: Rows = {
        "worked_party": party,
        "other_party": np.where(party == source, target, source),
        "device": optional(data, "device", rows),
        "operator": optional(data, "operator", rows),
        "drug": batch.drug[rows],
        "bought": ROLE_OF[batch.kind[rows]] == int(Role.RECEIVE),
        "seq": data.seq_base + rows,
        "time": batch.time[rows],
        "event_key": batch.event_key[rows],
    }
    order = earliest(columns, np.arange(len(rows)))
    columns = taken(columns, order)
    names = ("worked_party", "other_party", "device", "operator", "drug", "bought")
    grouped, starts = runs(columns["time"] // DAY, *(columns[name] for name in names))
    return taken(columns, np.sort(grouped[starts[:-1]]))


@kernel
def _join(left: Int64, right: Int64, parent: Int64) -> None:
    """Join the nodes of each pair; afterwards every entry of ``parent`` is its root."""
    for i in range(left.shape[0]):
        a, b = left[i], right[i]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a != b:
            parent[max(a, b)] = min(a, b)
    for node in range(parent.shape[0]):
        root = parent[node]
        while parent[root] != root:
            root = parent[root]
        parent[node] = root


def _judge_day(
    day: int, today: Rows, state: State, p: DisjointBusinessParameters
) -> list[tuple[Any, ...]]:
    recent, fired = _recent(state), _fired(state)
    recent.add({**today, "day": np.full(len(today["time"]), day)})
    recent.forget(day - p.days + 1)
    fired.forget(day - p.days)
    present = np.unique(today["worked_party"])
    never = np.iinfo(np.int64).max // 2
    size = int(present[-1]) + 1
    state["first_day"] = extended(state["first_day"], size, never)
    state["last_judged"] = extended(state["last_judged"], size, -never)
    first, last = state["first_day"], state["last_judged"]
    first[present] = np.minimum(first[present], day)
    turn = present[(first[present] <= day - p.days + 1) & (last[present] <= day - p.pause_days)]
    last[turn] = day
    rows = recent.rows
    chosen = np.isin(rows["worked_party"], turn)
    rows = taken(rows, np.flatnonzero(chosen))
    if len(rows["day"]) == 0:
        return []
    component = _components(rows)
    found = []
    order, starts = runs(rows["worked_party"])
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        mine = order[begin:end]
        if (component[mine] == component[mine[0]]).all():
            continue
        businesses = _businesses(taken(rows, mine), component[mine], p)
        who = int(rows["worked_party"][mine[0]])
        past = fired.rows
        highest = int(past["count"][past["party"] == who].max(initial=0))
        if len(businesses) < 2 or len(businesses) <= highest:
            continue
        fired.add(
            {"day": np.array([day]), "party": np.array([who]), "count": np.array([len(businesses)])}
        )
        _, _, sizes, events = min(businesses, key=lambda b: b[:2])
        seqs = rows["seq"][mine[events]]
        found.append((int(seqs[0]), who, day, len(businesses), sizes, seqs[1 : 1 + RELATED]))
    return found


def _components(rows: Rows) -> Int64:
    """Return a number for the component of each dealing, equal within a component only."""
    space = KeySpace({}, "node")
    party = rows["worked_party"]
    nodes = []
    for sort, name in enumerate(("other_party", "device", "operator")):
        ids = rows[name]
        node = space.ids(pair_all(party, ids), np.full(len(ids), sort, np.uint64)).astype(np.int64)
        nodes.append(np.where(ids >= 0, node, -1))
    other, device, operator = nodes
    parent = np.arange(len(space), dtype=np.int64)
    for instrument in (device, operator):
        stated = instrument >= 0
        _join(other[stated], instrument[stated], parent)
    return parent[other]


Business = tuple[int, int, tuple[int, int, int], Int64]


def _businesses(rows: Rows, component: Int64, p: DisjointBusinessParameters) -> list[Business]:
    """Return the competing businesses of one enterprise.

    Each: dealings, first event key, (suppliers, customers, dealings), and the first events of its
    dealings in order of (time, event key).
    """
    found: list[Business] = []
    drugs: list[set[int]] = []
    for number in np.unique(component):
        mine = np.flatnonzero(component == number)
        bought = rows["bought"][mine]
        suppliers = len(np.unique(rows["other_party"][mine[bought]]))
        customers = len(np.unique(rows["other_party"][mine[~bought]]))
        if suppliers < p.suppliers or customers < p.customers:
            continue
        names = ("day", "other_party", "device", "operator", "bought")
        mine = earliest(rows, mine)
        order, starts = runs(*(rows[name][mine] for name in names))
        dealings = len(starts) - 1
        if dealings - len(np.unique(rows["other_party"][mine])) < p.dealings:
            continue
        events = mine[np.sort(order[starts[:-1]])]
        first = int(rows["event_key"][events[0]])
        found.append((dealings, first, (suppliers, customers, dealings), events))
        drugs.append(set(rows["drug"][mine].tolist()) - {-1})
    competing = [
        any(i != j and len(mine & other) >= p.drugs for j, other in enumerate(drugs))
        for i, mine in enumerate(drugs)
    ]
    return [business for business, competes in zip(found, competing, strict=True) if competes]

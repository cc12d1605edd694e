"""Flow shift 流向异常 (G17): a seller's goods suddenly go to other provinces than before.

Definition
----------
Judged: events of role ``SHIP`` with a known giver and a receiver that is neither the giver nor of its
group; and online new sales to persons with a ship-to region. The *province* is that in which the
registry has the receiver, else that of the stated ship-to region; events without one are skipped as
``no_region``. A *consignment* is what has one giver, customer, drug, province and day. The *customer*
is the receiver; of a sale to a person the buyer, else the purchase (see ``_retail``).

When the first event judged of a later month is seen, each giver's month is compared with the three
months before it, together. Both sides keep only drugs that both have (a launch, or a drug given up,
moves the mix without any shift). Let ``n`` and ``N`` be the consignments of the two sides, ``r`` and
``R`` their customers, ``k`` the provinces of both, and JS the Jensen-Shannon divergence (base 2, so
between 0 and 1) of the shares of consignments by province. Sampling alone makes JS about
``expected`` = (k - 1) / (8 ln 2) × (1/r + 1/R), counting customers, as one customer's consignments go
one way; and only with the chance ``max_chance`` more than ``critical``: the same with the quantile of
chi-square with k - 1 degrees of freedom for (k - 1).

The month is *shifted* if n >= ``volume``, N >= ``volume``, JS - expected >= ``divergence`` and
JS >= critical. It *fires* if it is shifted, and if it still is (volumes apart)

* without the customer with the most consignments to the provinces whose share grew (of equal ones,
  the one whose first consignment there is the earliest by (time, event_key)): one new customer makes
  no shift of flow;
* without the drug with the most such consignments (likewise), where both sides have several: one drug
  that is short elsewhere makes none either.

The hit: the first consignment (by (time, event_key)) to the province whose share grew most (of equal
ones the smallest number). Its time is the beginning of the next month. observed = JS,
threshold = ``divergence``. Related: the next 16 consignments there. It stands only if the data begin
at most a week after the first of the three months does. Severity = 0.3 + 0.5 × JS. Subject: the giver.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.keys import KeySpace, extended, pair
from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._distributions import (
    PROVINCES,
    Side,
    compare,
    distinct,
    labels_of,
    most_marked,
)
from trace_engine.detectors._retail import RELATED, purchase_of, related_to
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
from trace_engine.events.batch import DAY, ONLINE
from trace_engine.events.kinds import Role
from trace_engine.registry.regions import load_regions

Int64 = npt.NDArray[np.int64]

MONTHS = 3  # a month is compared with so many before it
_LATE_BEGIN_DAYS = 7

_COLUMNS: dict[str, Any] = {
    "seq": np.int64, "time": np.int64, "event_key": np.uint64, "source": np.int32,
    "target": np.int32, "person": np.uint64, "drug": np.int32, "province": np.int8,
    "month_of_row": np.int32, "count": np.int32,
}  # fmt: skip


class FlowShiftParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`FlowShift`."""

    divergence: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Jensen-Shannon divergence beyond what sampling explains",
            extra_json_schema={"unit": "divergence", "zh": "流向分布的JS散度下限（扣除抽样波动）"},
        ),
    ] = 0.2
    volume: Annotated[
        int,
        msgspec.Meta(
            ge=10,
            le=1_000_000,
            description="Fewest consignments of the month and of the months before",
            extra_json_schema={"unit": "consignments", "zh": "当月及参照期最少发货批次"},
        ),
    ] = 50
    max_chance: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=0.05,
            description="Highest chance that sampling alone makes such a divergence",
            extra_json_schema={"unit": "probability", "zh": "抽样波动造成的概率上限"},
        ),
    ] = 0.000001


@kernel
def _shipments(
    rows: Int64,
    time: Int64,
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    target_region: npt.NDArray[np.int16],
    party_group: npt.NDArray[np.int32],
    party_province: npt.NDArray[np.int8],
    region_province: npt.NDArray[np.int8],
    event_key: npt.NDArray[np.uint64],
    kept: Int64,
    first: npt.NDArray[np.uint64],
    second: npt.NDArray[np.uint64],
    counts: Int64,
) -> int:
    """Write rows and keys of shipments with a province; ``counts``: judged, no region."""
    m = 0
    for i in rows:
        giver, receiver = source[i], target[i]
        if giver < 0 or receiver < 0 or giver == receiver:
            continue
        if party_group[giver] >= 0 and party_group[giver] == party_group[receiver]:
            continue
        province = np.int64(party_province[receiver])
        if province == 0 and target_region[i] >= 0:
            province = np.int64(region_province[target_region[i]])
        if province == 0:
            counts[1] += 1
            continue
        counts[0] += 1
        sides = pair(np.int64(giver), np.int64(receiver))
        goods = pair(np.int64(drug[i]), (time[i] // np.int64(DAY)) * PROVINCES + province)
        if m > 0 and first[m - 1] == sides and second[m - 1] == goods:
            b = kept[m - 1]  # rows of one bill follow each other: times never go back
            if time[i] == time[b] and event_key[i] < event_key[b]:
                kept[m - 1] = i
            continue
        kept[m] = i
        first[m] = sides
        second[m] = goods
        m += 1
    return m


@kernel
def _earliest(
    ids: npt.NDArray[np.int32],
    rows: Int64,
    time: Int64,
    event_key: npt.NDArray[np.uint64],
    best: Int64,
) -> None:
    """Write for each id the row with the smallest (time, event_key); ``best`` begins with -1."""
    for j in range(len(ids)):
        k, i = ids[j], rows[j]
        b = best[k]
        if b < 0 or time[i] < time[b] or (time[i] == time[b] and event_key[i] < event_key[b]):
            best[k] = i


class FlowShift(KeyedDetector[FlowShiftParameters]):
    """Destinations of a seller, month against months."""

    id: ClassVar[str] = "flow_shift"
    title_zh: ClassVar[str] = "流向异常"
    title_en: ClassVar[str] = "Flow shift"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.REGION
    key: ClassVar[str] = "seller"
    rows: ClassVar[tuple[str, ...]] = ("G17",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：流向异常的企业及品种"
    )
    unit: ClassVar[str] = "divergence"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises or to_region",)
    false_positives: ClassVar[str] = (
        "Small samples (compared with what sampling explains), one new customer, one drug that "
        "is short elsewhere (the shift must hold without them), launches (only drugs of both "
        "periods count), moves inside a group (left out), a month that is not over or not whole "
        "(not judged)."
    )
    false_positives_zh: ClassVar[str] = (
        "样本小（与抽样波动相比）、只多了一个新客户或某一品种外地短缺（去掉后仍须异常）、新品上市（"
        "只比两期都有的品种）、集团内部调拨（不计）、未结束或不完整的月份（不判定）。"
    )
    parameters: ClassVar[type[Parameters]] = FlowShiftParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{month}发往各省的分布与此前三个月明显不同（分布差异度{observed:.2f}，判定线"
        "{threshold:.2f}）：发往{province_zh}的比例由{before:.0f}%升至{after:.0f}%，首批为{drug}（批号"
        "{batch_no}）。"
    )
    sentence_en: ClassVar[str] = (
        "In {month} the goods of {subject} went to other provinces than in the three months "
        "before (divergence of the two distributions {observed:.2f}, limit {threshold:.2f}): "
        "{province_zh} rose from {before:.0f} % to {after:.0f} %, beginning with {drug} (batch "
        "{batch_no})."
    )

    def select(self, data: Slice, parameters: FlowShiftParameters) -> tuple[Rows, Verdict]:
        """Return one row for each consignment of a day."""
        batch, view = data.batch, data.registry
        regions = load_regions()
        rows = data.rows_of(Role.SHIP)
        kept, counts = np.empty(len(rows), np.int64), np.zeros(2, np.int64)
        first, second = np.empty(len(rows), np.uint64), np.empty(len(rows), np.uint64)
        m = _shipments(
            rows, batch.time, batch.source, batch.target, batch.drug, batch.target_region,
            view.party_group, view.party_province, regions.province, batch.event_key, kept, first,
            second, counts,
        )  # fmt: skip
        space = KeySpace({}, "consignment")
        ids = space.ids(first[:m], second[:m])
        shipped = np.full(len(space), -1, np.int64)
        _earliest(ids, kept[:m], batch.time, batch.event_key, shipped)
        sold, nowhere = _sold(data, regions.province)
        index = np.concatenate([shipped, sold])
        target = batch.target[index]
        sale = ROLE_OF[batch.kind[index]] == int(Role.PERSON_SALE)
        province = np.append(view.party_province, np.int8(0))[target]
        stated = regions.province[batch.target_region[index]]
        person = np.where(batch.buyer[index] != 0, batch.buyer[index], purchase_of(batch, index))
        columns: Rows = {
            "seq": data.seq_base + index,
            "time": batch.time[index],
            "event_key": batch.event_key[index],
            "source": batch.source[index],
            "target": np.where(sale, np.int32(-1), target),
            "person": np.where(sale, person, np.uint64(0)),
            "drug": batch.drug[index],
            "province": np.where(sale | (province == 0), stated, province).astype(np.int8),
        }
        order = np.argsort(columns["time"], kind="stable")
        judged, without = counts.tolist()
        without += nowhere
        return {name: column[order] for name, column in columns.items()}, Verdict(
            judged=judged + len(sold), skipped={"no_region": without} if without else {}
        )

    def new_state(self) -> State:
        """Return empty state: the consignments of the month and the three before it."""
        state: State = {"month": -1, "used": 0}
        for name, dtype in _COLUMNS.items():
            state[name] = np.empty(0, dtype)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: FlowShiftParameters, last_day: int
    ) -> Hits | None:
        """Judge each month once a later one has begun."""
        days = (rows["time"] // DAY).astype("datetime64[D]")
        months = days.astype("datetime64[M]").astype(np.int32)
        found: list[Any] = []
        for month in np.unique(months).tolist():
            if month > state["month"]:
                _close(state, month, parameters, found)
            new = {name: column[months == month] for name, column in rows.items()}
            count = np.ones(len(new["time"]), np.int32)
            new |= {"month_of_row": np.full(len(count), month, np.int32), "count": count}
            used, end = state["used"], state["used"] + len(count)
            for name in _COLUMNS:
                state[name] = extended(state[name], end)
                state[name][used:end] = new[name]
            state["used"] = end
        return _hits(found, parameters) if found else None


def _sold(data: Slice, region_province: npt.NDArray[np.int8]) -> tuple[Int64, int]:
    """Return the online sales to persons with a place they went to, and how many have none."""
    batch = data.batch
    rows = data.rows_of(Role.PERSON_SALE)
    rows = rows[(batch.flags[rows] & ONLINE) != 0]
    rows = rows[(data.custody.signal[rows] & np.uint32(NEW_SALE)) != 0]
    rows = rows[batch.source[rows] >= 0]
    region = batch.target_region[rows]
    placed = (region >= 0) & (region_province[region] != 0)
    return rows[placed], int(np.count_nonzero(~placed))


def _close(state: State, month: int, p: FlowShiftParameters, found: list[Any]) -> None:
    """Judge the month that is over, keep it as sums, and turn to ``month``."""
    over, state["month"] = state["month"], month
    pool = {name: state[name][: state["used"]] for name in _COLUMNS}
    kept = pool["month_of_row"] >= month - MONTHS
    now = pool["month_of_row"] == over
    customer = labels_of(pool["target"], pool["person"])
    flow = [pool[name] for name in ("source", "target", "person", "drug", "province")]
    fresh = np.flatnonzero(now)
    order, starts = distinct(
        [c[fresh] for c in (*flow, pool["time"] // DAY)],
        pool["time"][fresh],
        pool["event_key"][fresh],
    )
    consignments = fresh[order[starts]]  # the first row of each
    earlier = np.flatnonzero(~now & (pool["month_of_row"] >= over - MONTHS))
    sources, number = np.unique(pool["source"][consignments], return_counts=True)
    for source in sources[number >= p.volume].tolist():
        mine = consignments[pool["source"][consignments] == source]
        mine = mine[np.lexsort((pool["event_key"][mine], pool["time"][mine]))]
        then = earlier[pool["source"][earlier] == source]
        sides = [
            Side(customer[r], pool["drug"][r], pool["province"][r], pool["count"][r])
            for r in (mine, then)
        ]
        _judge(pool, over, mine, sides[0], sides[1], p, found)
    order, starts = distinct([c[consignments] for c in flow])
    sums = consignments[order[starts]]
    pool["count"] = pool["count"].copy()
    pool["count"][sums] = np.diff(np.append(starts, len(order)))
    chosen = np.concatenate([np.flatnonzero(kept & ~now), sums])
    for name in _COLUMNS:
        state[name] = pool[name][chosen]
    state["used"] = len(chosen)


def _judge(
    pool: Rows,
    month: int,
    mine: Int64,
    now: Side,
    before: Side,
    p: FlowShiftParameters,
    found: list[Any],
) -> None:
    """Compare one giver's month; ``mine``: its rows by (time, event_key), the rows of ``now``."""
    result = compare(now, before, divergence=p.divergence, max_chance=p.max_chance)
    if result is None or not result.shifted or min(result.sizes) < p.volume:
        return
    grown = result.now & (result.gain[now.province] > 0)
    several = len(np.unique(now.drug[result.now])) > 1
    for mark, mark_before, asked in (
        (now.customer, before.customer, True),
        (now.drug, before.drug, several),
    ):
        if not asked:
            continue
        most = most_marked(mark[grown])
        rest = compare(
            now.of(mark != most),
            before.of(mark_before != most),
            divergence=p.divergence,
            max_chance=p.max_chance,
        )
        if rest is None or not rest.shifted:
            return
    province = int(np.argmax(result.gain))
    there = mine[result.now & (now.province == province)]
    a, b = result.shares
    found.append(
        (
            int(pool["seq"][there[0]]),
            month,
            result.divergence,
            province,
            100 * float(b[province]),
            100 * float(a[province]),
            int(pool["event_key"][there[0]]),
            pool["seq"][there[1 : RELATED + 1]].tolist(),
        )
    )


def _begin(month: int) -> int:
    """Return when a month (months since 1970-01) begins, µs."""
    return int(np.datetime64(month, "M").astype("datetime64[D]").astype(np.int64)) * DAY


def _hits(found: list[Any], p: FlowShiftParameters) -> Hits:
    seq, months, divergence, provinces, before, after, group, related = zip(*found, strict=True)
    names = load_regions().province_names
    observed = np.array(divergence, np.float64)
    since = [_begin(month - MONTHS) + _LATE_BEGIN_DAYS * DAY for month in months]
    return Hits(
        seq=np.array(seq, np.int64),
        time=np.array([_begin(month + 1) for month in months], np.int64),
        observed=observed,
        threshold=np.full(len(seq), p.divergence),
        severity=np.clip(0.3 + 0.5 * observed, 0, 1).astype(np.float32),
        group=np.array(group, np.uint64),
        history_since=np.array(since, np.int64),
        related=related_to(related),
        extra={
            "month": np.array([str(np.datetime64(month, "M")) for month in months]),
            "province_zh": np.array([names.get(f"{code:02d}", "—") for code in provinces]),
            "before": np.array(before, np.float64),
            "after": np.array(after, np.float64),
        },
    )

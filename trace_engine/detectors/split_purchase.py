"""Split purchase 拆单/多人代购 (P5): linked buyers together buy more than one person may.

Definition
----------
Restricted sales, packs and *gone* are defined in ``_quota``. A class is judged if its quota has
windows; its *limit* is that of the shortest one. Judged are sales of any buyer that state a contact, an
address or a buyer's device (the others are skipped as ``no_link``).

*Linked*: two sales of one class are linked directly if they are of one purchase (see ``_retail``), of
one stated buyer, or state one contact, device or address; and through others. No link is

* a contact, device or address that on the ``reference_days`` days before the day judged more than
  ``household`` buyers used for other drugs (sales that are not restricted): a nursing home, a school;
* an address that more than ``household`` buyers state among the sales looked at: a dormitory, where
  a cold goes round. (Whoever buys for others there shares a telephone or a device with them.)

*Moments*. A timed sale at t is judged at t, over the timed sales of the class with t - 24 h < time <= t.
The date-only sales of a day are judged together at its end, over all sales of that day. Sales that are
gone at the moment are left out; at the end of a day: gone then.

A *group* of linked sales *counts* if its packs are above the limit, it has at least ``orders``
purchases, and it is not one buyer's alone (that is ``quota_rolling``). Its *height* is the whole part
of (packs - 1) / limit. A group that holds a sale judged at the moment *fires* if it counts, and is
higher than every group that counts among the same sales without those judged at the moment and that
holds one of its sales: when it becomes true, and at each multiple of the limit.

The hit: of the sales judged at the moment in it, the one with the smallest event_key. observed = packs,
threshold = limit. Its time is t, or the beginning of the day. Related: its other sales (at most 16,
latest first). Severity = 0.5 + 0.1 × height, at most 0.9. Subject: the seller of the hit.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._linked_sales import (
    LINKS,
    LinkedRows,
    Sale,
    SplitPurchaseParameters,
    groups_of,
    judge_group,
    may_count,
)
from trace_engine.detectors._quota import (
    SALE,
    class_texts,
    days_of,
    part,
    restricted_rows,
)
from trace_engine.detectors._retail import optional, purchase_of, related_to
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
from trace_engine.events.kinds import Role
from trace_engine.policy.values import Quota

USE = 3  # a row that tells of one buyer and one contact, address or device (see _quota for others)

Uint64 = npt.NDArray[np.uint64]


class SplitPurchase(KeyedDetector[SplitPurchaseParameters]):
    """Restricted sales linked by contact, address, device or buyer, within a day."""

    id: ClassVar[str] = "split_purchase"
    title_zh: ClassVar[str] = "拆单/多人代购"
    title_en: ClassVar[str] = "Split purchase"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.QUANTITY
    key: ClassVar[str] = "class and linked buyers"
    rows: ClassVar[tuple[str, ...]] = ("P5",)
    basis: ClassVar[str] = (
        "《关于加强含麻黄碱类复方制剂管理有关事宜的通知》（国食药监办〔2012〕260号）；药品经营环节"
        "“清源”巩固提升行动（药监综药管〔2026〕22号）：超量销售有限售管理要求的药品品种"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = (
        "registry.drugs", "contact_id, address_id or buyer_device_id",
    )  # fmt: skip
    false_positives: ClassVar[str] = (
        "Dormitories (many buyers at one address: no link by itself), nursing homes and schools "
        "(contacts, addresses and devices of many buyers of other drugs: no link), families "
        "(nothing up to the limit, and at least three purchases), sales on prescription (left "
        "out), packs returned (taken off)."
    )
    false_positives_zh: ClassVar[str] = (
        "集体宿舍（同一地址购买人多，不单独作为关联）、养老机构和学校（其联系方式、地址、"
        "设备对应众多购买其他药品的人，不作为关联）、家庭（未超限量不触发，且至少三笔）、凭处方销售（"
        "不计）、已退回的包装（抵减）。"
    )
    parameters: ClassVar[type[Parameters]] = SplitPurchaseParameters
    sentence_zh: ClassVar[str] = (
        "至{time}的24小时内，{people}名购买人经{orders}笔相互关联（联系方式、地址、设备或订单相同）的"
        "订单共购买{class_zh}{observed:.0f}个最小包装，超过{threshold:.0f}个；最近一笔由{subject}销售"
        "（{drug}，订单{order}）。"
    )
    sentence_en: ClassVar[str] = (
        "In the 24 hours to {time} {people} buyers bought {observed:.0f} packs of the class {class_en} "
        "in {orders} purchases linked by contact, address, device or order (limit {threshold:.0f}), "
        "lastly from {subject} ({drug}, order {order})."
    )

    def select(self, data: Slice, parameters: SplitPurchaseParameters) -> tuple[Rows, Verdict]:
        """Return linked restricted sales, what takes them back, and who else used the links."""

        def shortest(quota: Quota) -> list[tuple[int, int]]:
            return [(min(quota.windows)[1], 1)] if quota.windows else []

        rows, verdict = restricted_rows(data, shortest, buyer_needed=False)
        index = rows["seq"] - data.seq_base
        sale = rows["role"] == SALE
        rows["purchase"] = purchase_of(data.batch, index)
        linked = np.zeros(len(index), np.bool_)
        for name in LINKS:
            rows[name] = optional(data.batch, name, index, 0, np.uint64)
            linked |= rows[name] != 0
        unlinked = int(np.count_nonzero(sale & ~linked))
        if unlinked:
            verdict.skipped["no_link"] = unlinked
            verdict.judged -= unlinked
        restricted = index[sale]
        rows = part(rows, ~sale | linked)
        uses = _uses(data, restricted)
        if len(uses["time"]):
            blank = {
                name: np.zeros(len(uses["time"]), column.dtype) for name, column in rows.items()
            }
            uses = blank | uses
            joined = {name: np.concatenate([rows[name], uses[name]]) for name in rows}
            order = np.argsort(joined["time"], kind="stable")
            rows = {name: column[order] for name, column in joined.items()}
        return rows, verdict

    def new_state(self) -> State:
        """Return empty state: recent restricted sales, and uses of links for other drugs."""
        state: State = {
            "use_time": np.empty(0, np.int64),
            "use_link": np.empty(0, np.uint64),
            "use_buyer": np.empty(0, np.uint64),
        }
        LinkedRows(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: SplitPurchaseParameters, last_day: int
    ) -> Hits | None:
        """Judge the sales day by day."""
        pool, found = LinkedRows(state), list[Any]()
        for day, today in days_of(rows):
            role = today["role"]
            pool.forget((day - 1) * DAY)
            sales = part(today, role == SALE)
            key = sales["class_id"].astype(np.uint64)
            begin, end = pool.append(sales, key, np.zeros(len(key), np.uint64))
            pool.take_back(part(today, (role != SALE) & (role != USE)))
            if end > begin:
                _judge_day(pool, day, np.unique(sales["class_id"]).tolist(), parameters, found)
            _remember_uses(state, part(today, role == USE), (day - parameters.reference_days) * DAY)
        return _hits(found)


def _uses(data: Slice, restricted: npt.NDArray[np.int64]) -> Rows:
    """Return a row for each buyer and link of the new sales that are not restricted, by day."""
    batch = data.batch
    names = [name for name in LINKS if name in batch.optional]
    nothing: Rows = {"time": np.empty(0, np.int64)}
    if not names:
        return nothing
    rows = data.rows_of(Role.PERSON_SALE)
    rows = rows[(data.custody.signal[rows] & np.uint32(NEW_SALE)) != 0]
    rows = rows[batch.buyer[rows] != 0]
    rows = rows[~np.isin(rows, restricted)]
    pieces = [rows[batch.optional[name][rows] != 0] for name in names]
    index = np.concatenate(pieces)
    if len(index) == 0:
        return nothing
    link = np.concatenate(
        [batch.optional[name][piece] for name, piece in zip(names, pieces, strict=True)]
    )
    return {
        "seq": data.seq_base + index,
        "time": batch.time[index],
        "event_key": batch.event_key[index],
        "role": np.full(len(index), USE, np.int8),
        "buyer": batch.buyer[index],
        "contact": link,
    }


def _remember_uses(state: State, uses: Rows, before: int) -> None:
    """Keep who used which link, a day's once, and drop what is older than ``before`` (µs)."""
    if len(uses["time"]) == 0:
        return
    pairs = np.unique(np.stack([uses["contact"], uses["buyer"]], axis=1), axis=0)
    day = uses["time"][0] // DAY * DAY
    kept = state["use_time"] >= before
    new = {
        "use_time": np.full(len(pairs), day), "use_link": pairs[:, 0], "use_buyer": pairs[:, 1],
    }  # fmt: skip
    for name, values in new.items():
        state[name] = np.concatenate([state[name][kept], values])


def _institutions(
    state: State, links: set[int], since: int, p: SplitPurchaseParameters
) -> set[int]:
    """Return those of ``links`` that many buyers used for other drugs since ``since`` (µs)."""
    if not links:
        return set()
    asked = np.array(sorted(links), np.uint64)
    rows = np.flatnonzero(np.isin(state["use_link"], asked) & (state["use_time"] >= since))
    buyers: defaultdict[int, set[int]] = defaultdict(set)
    for link, buyer in zip(
        state["use_link"][rows].tolist(), state["use_buyer"][rows].tolist(), strict=True
    ):
        buyers[link].add(buyer)
    return {link for link, some in buyers.items() if len(some) > p.household}


def _judge_day(
    pool: LinkedRows, day: int, classes: list[int], p: SplitPurchaseParameters, found: list[Any]
) -> None:
    time, of_class = pool.column("time"), pool.column("class_id")
    columns = {n: pool.column(n) for n in ("packs", "buyer", "purchase", *LINKS)}
    for class_id in classes:
        rows = np.flatnonzero((of_class == class_id) & (time >= (day - 1) * DAY))
        limit = int(pool.column("limit")[rows[-1]])  # one day's policy
        sales = [
            Sale(
                row,
                int(time[row]),
                int(columns["packs"][row]),
                int(columns["buyer"][row]),
                int(columns["purchase"][row]),
                tuple((name, int(columns[name][row])) for name in LINKS if columns[name][row]),
            )
            for row in rows.tolist()
        ]
        # Whoever is not linked to enough by everything there is will not be by less.
        loose = [g for g in groups_of(sales, set(), 2**62) if may_count(g, day, limit, p)]
        links = {value for g in loose for sale in g for _, value in sale.links}
        excluded = _institutions(pool.state, links, (day - p.reference_days) * DAY, p)
        for group in loose:
            judge_group(pool, day, group, excluded, limit, p, found)


def _hits(found: list[Any]) -> Hits | None:
    if not found:
        return None
    seq, time, packs, limits, classes, group, people, orders, related = zip(*found, strict=True)
    observed, limit = np.array(packs, np.float64), np.array(limits, np.float64)
    zh, en = class_texts(np.array(classes, np.int64))
    height = np.floor((observed - 1) / limit)
    return Hits(
        seq=np.array(seq, np.int64),
        time=np.array(time, np.int64),
        observed=observed,
        threshold=limit,
        severity=np.minimum(0.5 + 0.1 * height, 0.9).astype(np.float32),
        group=np.array(group, np.uint64),
        related=related_to(related),
        extra={
            "class_zh": zh,
            "class_en": en,
            "people": np.array(people, np.int64),
            "orders": np.array(orders, np.int64),
        },
    )

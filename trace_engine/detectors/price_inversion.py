"""Price inversion 购销价格倒挂 (P1): sold for less than it cost.

Goods sold below cost without a reason (clearance, gift) point to goods that were not bought as the
records say: diverted insurance drugs, invoices without goods, rebates behind the books.

Definition
----------
Prices are fen per smallest pack, ``packs`` is the event's quantity (at least 1), ``gift`` is the
gift flag or one of the kinds gift shipment (212) and gift receipt (110).

*Sales*: (a) events of role ``SHIP`` other than direct shipment (207) whose giver and receiver are
known and differ; (b) events of role ``PERSON_SALE`` with the signal ``NEW_SALE`` and a known giver.
A sale is left out and counted as skipped, in this order, when it is a gift (``gift``), has no price
above 0 (``no_price``) or is a split sale (``split_sale``: its price may be that of a part of the
pack). What remains is a *priced sale*. A priced sale with ``expiry - day(sale) <=
near_expiry_days`` (expiry known) is not judged (``near_expiry``), but its packs leave the stock.

*Purchases*: events with the signal ``HOP`` whose receiver and drug are known, with a price above 0,
that are no gift. (A shipment and its receipt are one hop and so one purchase.) The buyer is the receiver.

*Cost* of a priced sale by X of drug d and batch number b, the first that is known of:

1. ``code``: ``custody.cost`` if above 0: what X paid for this very code;
2. ``batch``: the moving weighted cost of (X, d, b), if b is known;
3. ``drug``: the moving weighted cost of (X, d, any batch number).

*Moving weighted cost* of a key: integers ``value`` (fen) and ``packs``, both 0 at first, and the
last known cost. A purchase adds ``price × packs`` and ``packs``. At the end of each day the packs of
that day's priced sales of the key, ``sold``, are taken out: if ``sold >= packs > 0`` the last known
cost becomes ``value / packs`` and both become 0; else ``value -= floor(value × sold / packs)`` and
``packs -= sold``. The cost is ``value / packs``, or the last known one while ``packs`` is 0, or
unknown. Sales of a day take nothing out before its end, so the cost at a moment of a day is that of
the stock at the start of the day and the purchases of the day that are counted at that moment:

* a timed sale at t: once with the day's timed purchases up to and including t, and once with the
  day's date-only purchases (midnight exactly) as well, as they may have come before or after;
* a date-only sale: once without any purchase of the day (start of the day) and once with all (end).

The cost is the lower of the two, or the one that is known. Costs are compared as float64.

*Fires* when ``price < cost × (1 - tolerance)``; observed = price, threshold = ``cost × (1 -
tolerance)``, both in CNY; amount = ``round((cost - price) × packs)``. The subject is the giver.
Severity = 0.3 + (1 - price / cost), at most 1.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core import signals
from trace_engine.core.kernel import kernel
from trace_engine.core.keys import KeySpace, extended
from trace_engine.core.stock import (
    JUDGED_SALE,
    PURCHASE,
    SALE,
    STOCK_COLUMNS,
    advance_stock,
    stock_keys,
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
from trace_engine.events.batch import DAY, GIFT, MISSING_DAY, SPLIT_SALE
from trace_engine.events.kinds import EventKind, Role

_SHIP, _PERSON_SALE = int(Role.SHIP), int(Role.PERSON_SALE)
_DIRECT = int(EventKind.DIRECT_SHIPMENT)
_GIFT_SHIPMENT, _GIFT_RECEIPT = int(EventKind.GIFT_SHIPMENT), int(EventKind.GIFT_RECEIPT)
_HOP, _NEW_SALE = np.uint32(signals.HOP), np.uint32(signals.NEW_SALE)
_GIFT, _SPLIT = np.uint8(GIFT), np.uint8(SPLIT_SALE)
_DAY = np.int64(DAY)
_MISSING_DAY = np.int32(MISSING_DAY)

_BASIS_ZH = np.array(["该追溯码的购进价", "同批号加权平均购进价", "同品种加权平均购进价"])
_BASIS_EN = np.array(
    [
        "what it paid for this very code",
        "its weighted cost of this batch",
        "its weighted cost of this drug",
    ]
)

_REASONS = ("gift", "no_price", "split_sale", "near_expiry")


@kernel
def _select(
    role_of: npt.NDArray[np.int8],
    kind: npt.NDArray[np.int8],
    flags: npt.NDArray[np.uint8],
    time: npt.NDArray[np.int64],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    price: npt.NDArray[np.int32],
    expiry: npt.NDArray[np.int32],
    signal: npt.NDArray[np.uint32],
    near_expiry_days: int,
    rows: npt.NDArray[np.int64],
    what: npt.NDArray[np.uint8],
    holder: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int64],
) -> int:
    """Write rows, what they are and whose stock they touch; return how many.

    ``counts``: judged, then by reason.
    """
    m = 0
    for i in range(kind.shape[0]):
        role = role_of[kind[i]]
        gift = (flags[i] & _GIFT) != 0 or kind[i] == _GIFT_SHIPMENT or kind[i] == _GIFT_RECEIPT
        bought = (signal[i] & _HOP) != 0 and target[i] >= 0 and drug[i] >= 0
        if bought and price[i] > 0 and not gift:
            rows[m] = i
            what[m] = PURCHASE
            holder[m] = target[i]
            m += 1
        if role == _SHIP:
            if kind[i] == _DIRECT or target[i] < 0 or target[i] == source[i]:
                continue
        elif role != _PERSON_SALE or (signal[i] & _NEW_SALE) == 0:
            continue
        if source[i] < 0:
            continue
        if gift:
            counts[1] += 1
        elif price[i] <= 0:
            counts[2] += 1
        elif (flags[i] & _SPLIT) != 0:
            counts[3] += 1
        else:
            rows[m] = i
            holder[m] = source[i]
            day = time[i] // _DAY
            if expiry[i] != _MISSING_DAY and expiry[i] - day <= near_expiry_days:
                what[m] = SALE
                counts[4] += 1
            else:
                what[m] = JUDGED_SALE
                counts[0] += 1
            m += 1
    return m


@kernel
def _gather(
    index: npt.NDArray[np.int64],
    seq_base: int,
    time: npt.NDArray[np.int64],
    event_key: npt.NDArray[np.uint64],
    drug: npt.NDArray[np.int32],
    batch_no: npt.NDArray[np.int32],
    price: npt.NDArray[np.int32],
    quantity: npt.NDArray[np.int32],
    cost: npt.NDArray[np.int32],
    long: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    short: npt.NDArray[np.int32],
) -> None:
    """Copy the columns of the rows ``index`` in one pass: into seq and time, key, and the rest."""
    for i in range(index.shape[0]):
        row = index[i]
        long[0, i] = seq_base + row
        long[1, i] = time[row]
        keys[i] = event_key[row]
        short[0, i] = drug[row]
        short[1, i] = batch_no[row]
        short[2, i] = price[row]
        short[3, i] = max(quantity[row], np.int32(1))
        short[4, i] = cost[row]


class PriceInversionParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PriceInversion`."""

    tolerance: Annotated[
        float,
        msgspec.Meta(
            ge=0.0,
            le=0.9,
            description="Share of the cost by which a price may lie below it",
            extra_json_schema={"unit": "share", "zh": "允许低于购进成本的比例"},
        ),
    ] = 0.03
    near_expiry_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=3650,
            description="Packs this near to their expiry are cleared cheaply and not judged",
            extra_json_schema={"unit": "days", "zh": "距有效期不足该天数的近效期药品不判"},
        ),
    ] = 180


class PriceInversion(KeyedDetector[PriceInversionParameters]):
    """Sales below what the seller paid."""

    id: ClassVar[str] = "price_inversion"
    title_zh: ClassVar[str] = "购销价格倒挂"
    title_en: ClassVar[str] = "Sold below cost"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.PRICE
    key: ClassVar[str] = "seller, drug and batch number"
    rows: ClassVar[tuple[str, ...]] = ("P1",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：药品购销价格倒挂"
    )
    unit: ClassVar[str] = "CNY"
    needs: ClassVar[tuple[str, ...]] = ("unit_price",)
    false_positives: ClassVar[str] = (
        "Near-expiry clearance, gifts and split sales (left out). Not kept out beyond a small "
        "tolerance: rebates after the invoice, prices with and without tax, mistakes of pack "
        "size; check the invoice."
    )
    false_positives_zh: ClassVar[str] = (
        "近效期处理、赠品、拆零销售（不计）。未排除：开票后返利、含税与不含税价混用、包装规格填错（"
        "仅容许小幅差异），请核对发票。"
    )
    parameters: ClassVar[type[Parameters]] = PriceInversionParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}销售{drug}（批号{batch_no}）{code_count}个追溯码，单价{observed:.2f}元，"
        "低于{cost_basis_zh}{cost:.2f}元（判定线{threshold:.2f}元），涉嫌购销价格倒挂。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} code(s) of {drug} (batch {batch_no}) at "
        "{observed:.2f} CNY a pack, below {cost_basis_en}, {cost:.2f} CNY "
        "(limit {threshold:.2f} CNY)."
    )

    def select(self, data: Slice, parameters: PriceInversionParameters) -> tuple[Rows, Verdict]:
        """Return purchases and priced sales of the slice (see the module's definition)."""
        batch, n = data.batch, len(data)
        # An event may be a purchase and a sale. Untouched memory costs nothing.
        index = np.empty(2 * n, np.int64)
        what = np.empty(2 * n, np.uint8)
        holder = np.empty(2 * n, np.int32)
        counts = np.zeros(1 + len(_REASONS), np.int64)
        m = _select(
            ROLE_OF,
            batch.kind,
            batch.flags,
            batch.time,
            batch.source,
            batch.target,
            batch.drug,
            batch.price,
            batch.expiry,
            data.custody.signal,
            parameters.near_expiry_days,
            index,
            what,
            holder,
            counts,
        )
        index = index[:m]
        long = np.empty((2, m), np.int64)
        keys = np.empty(m, np.uint64)
        short = np.empty((5, m), np.int32)
        _gather(
            index,
            data.seq_base,
            batch.time,
            batch.event_key,
            batch.drug,
            batch.batch_no,
            batch.price,
            batch.quantity,
            data.custody.cost,
            long,
            keys,
            short,
        )
        rows: Rows = {
            "seq": long[0],
            "time": long[1],
            "event_key": keys,
            "what": what[:m],
            # Whose stock the row touches: the giver of a sale, the receiver of a purchase.
            "source": holder[:m],
            "drug": short[0],
            "batch_no": short[1],
            "price": short[2],
            "packs": short[3],
            "cost": short[4],
        }
        skipped = {r: int(c) for r, c in zip(_REASONS, counts[1:], strict=True) if c}
        return rows, Verdict(judged=int(counts[0]), skipped=skipped)

    def new_state(self) -> State:
        """Return empty state: a key space, and by key the stock and the key of the drug."""
        state: State = {"stock": np.zeros((512, STOCK_COLUMNS), np.int64)}
        KeySpace(state, "key")
        return state

    def advance(
        self, rows: Rows, state: State, parameters: PriceInversionParameters, last_day: int
    ) -> Hits | None:
        """Move the stock over whole days and return the sales below cost."""
        n = len(rows["seq"])
        if n == 0:
            return None
        ids = self._ids(rows, state)
        fired = np.empty(n, np.int64)
        cost = np.empty(n, np.float64)
        basis = np.empty(n, np.int8)
        m = advance_stock(
            rows["time"],
            rows["what"],
            rows["price"],
            rows["packs"],
            rows["cost"],
            ids,
            state["stock"],
            np.empty(2 * n, np.int64),
            parameters.tolerance,
            fired,
            cost,
            basis,
        )
        if m == 0:
            return None
        fired, cost, basis = fired[:m], cost[:m], basis[:m]
        price = rows["price"][fired].astype(np.float64)
        amount = np.rint((cost - price) * rows["packs"][fired]).astype(np.int64)
        return Hits(
            seq=rows["seq"][fired],
            observed=price / 100,
            threshold=cost * (1.0 - parameters.tolerance) / 100,
            severity=np.clip(0.3 + 1.0 - price / cost, 0, 1).astype(np.float32),
            amount=amount,
            extra={
                "cost": np.round(cost / 100, 2),
                "cost_basis_zh": _BASIS_ZH[basis],
                "cost_basis_en": _BASIS_EN[basis],
            },
        )

    @staticmethod
    def _ids(rows: Rows, state: State) -> npt.NDArray[np.int32]:
        """Return the key (seller, drug, batch number) of each row; its parent stands in state."""
        space = KeySpace(state, "key")
        ids = np.empty(len(rows["seq"]), np.int32)
        begin = 0
        while True:
            state["stock"] = extended(state["stock"], len(space.words))
            begin = stock_keys(
                space.slots,
                space.words,
                space.used,
                state["stock"],
                rows["what"],
                rows["source"],
                rows["drug"],
                rows["batch_no"],
                ids,
                begin,
            )
            if begin == len(ids):
                return ids
            space.grow()

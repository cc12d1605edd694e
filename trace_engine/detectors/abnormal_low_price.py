"""Abnormally low price 异常低价 (P2): far below what the same drug costs in the same channel.

Definition
----------
Prices are fen per smallest pack; gifts are as in the gift flag or the kind gift shipment (212).

*Sales*: (a) events of role ``SHIP`` other than direct shipment (207) whose giver and receiver are
known and differ; (b) events of role ``PERSON_SALE`` with the signal ``NEW_SALE`` and a known giver.
A sale is left out and counted as skipped, in this order, when it is a gift (``gift``), has no price
above 0 (``no_price``), is a split sale (``split_sale``), names no drug (``no_drug``), or is a
clearance: ``expiry - day(sale) <= near_expiry_days``, expiry known (``near_expiry``). What remains is
judged, and enters the reference of later days.

*Channel* of a sale: ``wholesale`` for (a); for (b) ``medical`` if the kind is vaccination or
dispensing or the registry's type of the giver is medical or public hospital, else ``online`` if a
platform or shop is named (flag ``ONLINE``), else ``retail``.

*Reference* of a sale on day D: all judged sales (one event one value) of the same drug and channel on
the days D - reference_days to D - 1. Each value falls into the bin ``floor(200 × ln price)``, 0.005
wide. With n values, ``median`` is the bin of the ``(n + 1) // 2``-th smallest, its price
``M = exp((bin + 0.5) / 200)``; ``MAD`` is the smallest r >= 1 such that at least ``(n + 1) // 2``
values lie in bins median - r to median + r, times 0.005.

*Fires* when n >= minimum_reference_sales, ``price <= ratio × M`` and
``0.6745 × (ln price - (bin + 0.5) / 200) / MAD <= robust_z``. observed = price, threshold = ratio × M,
in CNY; amount = ``round((M - price) × packs)``. The subject is the giver. Severity = 0.4 + 0.5 × (1 -
price / M), and 0.2 more for a drug of the class ``high_value``, at most 1.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.histogram import (
    BIN_WIDTH,
    Histograms,
    centre_of,
    deviation_bins,
    median_bin,
)
from trace_engine.core.kernel import kernel
from trace_engine.core.keys import KeySpace, pair
from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._shared import parties_of_type
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
from trace_engine.events.batch import DAY, GIFT, MISSING_DAY, ONLINE, SPLIT_SALE
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry.types import MEDICAL_TYPES

_WHOLESALE, _RETAIL, _ONLINE, _MEDICAL = 0, 1, 2, 3
_CHANNEL_ZH = np.array(["批发", "线下零售", "网络零售", "医疗机构"])
_CHANNEL_EN = np.array(["wholesale", "retail", "online", "medical"])
_NORMAL = 0.6745  # MAD of a normal distribution in standard deviations


_REASONS = ("gift", "no_price", "split_sale", "no_drug", "near_expiry")

_SHIP, _PERSON_SALE = int(Role.SHIP), int(Role.PERSON_SALE)
_DIRECT, _GIFT_SHIPMENT = int(EventKind.DIRECT_SHIPMENT), int(EventKind.GIFT_SHIPMENT)
_VACCINATION, _DISPENSING = int(EventKind.VACCINATION), int(EventKind.DISPENSING)
_NEW_SALE, _MISSING_DAY, _DAY = np.uint32(NEW_SALE), np.int32(MISSING_DAY), np.int64(DAY)
_GIFT, _SPLIT, _ON_LINE = np.uint8(GIFT), np.uint8(SPLIT_SALE), np.uint8(ONLINE)


@kernel
def _select(
    role_of: npt.NDArray[np.int8],
    medical: npt.NDArray[np.bool_],
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
    channel: npt.NDArray[np.int8],
    counts: npt.NDArray[np.int64],
) -> int:
    """Write the rows to judge and their channels; return how many. ``counts[1:]`` by reason."""
    m = 0
    for i in range(len(kind)):
        role = role_of[kind[i]]
        if role == _SHIP:
            if kind[i] == _DIRECT or target[i] < 0 or target[i] == source[i]:
                continue
        elif role != _PERSON_SALE or (signal[i] & _NEW_SALE) == 0:
            continue
        if source[i] < 0:
            continue
        if (flags[i] & _GIFT) != 0 or kind[i] == _GIFT_SHIPMENT:
            counts[1] += 1
        elif price[i] <= 0:
            counts[2] += 1
        elif (flags[i] & _SPLIT) != 0:
            counts[3] += 1
        elif drug[i] < 0:
            counts[4] += 1
        elif expiry[i] != _MISSING_DAY and expiry[i] - time[i] // _DAY <= near_expiry_days:
            counts[5] += 1
        else:
            rows[m] = i
            if role == _SHIP:
                channel[m] = _WHOLESALE
            elif kind[i] == _VACCINATION or kind[i] == _DISPENSING or medical[source[i]]:
                channel[m] = _MEDICAL
            elif (flags[i] & _ON_LINE) != 0:
                channel[m] = _ONLINE
            else:
                channel[m] = _RETAIL
            m += 1
    return m


@kernel
def _words(
    drug: npt.NDArray[np.int32],
    channel: npt.NDArray[np.int8],
    first: npt.NDArray[np.uint64],
    second: npt.NDArray[np.uint64],
) -> None:
    for i in range(drug.shape[0]):
        first[i] = pair(np.int64(drug[i]), np.int64(channel[i]))
        second[i] = np.uint64(0)


@kernel
def _judge(
    keys: npt.NDArray[np.int32],
    price: npt.NDArray[np.int32],
    pages: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    summary: npt.NDArray[np.int64],
    known: npt.NDArray[np.float64],
    minimum: int,
    ratio: float,
    robust_z: float,
    fired: npt.NDArray[np.int64],
    median: npt.NDArray[np.float64],
    z: npt.NDArray[np.float64],
) -> int:
    """Write the rows of one day that fire, with median (fen) and robust z; return how many.

    ``known`` (keys, 3): median bin and price of the day, once computed, and MAD; negative before.
    """
    m = 0
    low = False  # whether the row before fired, and with which score
    score = 0.0
    for i in range(keys.shape[0]):
        key = keys[i]
        if i > 0 and key == keys[i - 1] and price[i] == price[i - 1]:
            if low:
                fired[m], median[m], z[m] = i, known[key, 1], score
                m += 1
            continue
        low = False
        if summary[key, 0] < minimum or summary[key, 0] == 0:
            continue
        if known[key, 0] < 0.0:
            found = median_bin(pages, counts, summary, key)
            known[key, 0] = float(found)
            known[key, 1] = math.exp(centre_of(found))
        if price[i] > ratio * known[key, 1]:
            continue
        at = int(known[key, 0])
        if known[key, 2] < 0.0:
            known[key, 2] = deviation_bins(pages, counts, summary, key, at) * BIN_WIDTH
        score = _NORMAL * (math.log(float(price[i])) - centre_of(at)) / known[key, 2]
        low = score <= robust_z
        if low:
            fired[m], median[m], z[m] = i, known[key, 1], score
            m += 1
    return m


class AbnormalLowPriceParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`AbnormalLowPrice`."""

    ratio: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            lt=1.0,
            description="Highest share of the median that is abnormally low",
            extra_json_schema={"unit": "ratio", "zh": "低于同品种同渠道中位价的该比例"},
        ),
    ] = 0.7
    robust_z: Annotated[
        float,
        msgspec.Meta(
            ge=-100.0,
            le=0.0,
            description="Highest robust z of the logarithm of the price that is abnormally low",
            extra_json_schema={"unit": "robust z", "zh": "对数价格的稳健z值上限"},
        ),
    ] = -3.5
    minimum_reference_sales: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Fewest sales in the reference for it to mean anything",
            extra_json_schema={"unit": "sales", "zh": "参照期内最少销售笔数"},
        ),
    ] = 30
    reference_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Closed days before the day of the sale that make its reference",
            extra_json_schema={"unit": "days", "zh": "参照期天数（不含当日）"},
        ),
    ] = 30
    near_expiry_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=3650,
            description="Packs this near to their expiry are cleared cheaply and not judged",
            extra_json_schema={"unit": "days", "zh": "距有效期不足该天数的近效期药品不判"},
        ),
    ] = 180


class AbnormalLowPrice(KeyedDetector[AbnormalLowPriceParameters]):
    """Prices against the same drug and channel on the days before."""

    id: ClassVar[str] = "abnormal_low_price"
    title_zh: ClassVar[str] = "异常低价"
    title_en: ClassVar[str] = "Abnormally low price"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.PRICE
    key: ClassVar[str] = "drug and channel"
    rows: ClassVar[tuple[str, ...]] = ("P2",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：异常低价、超低价销售高值药品"
    )
    unit: ClassVar[str] = "CNY"
    needs: ClassVar[tuple[str, ...]] = ("unit_price",)
    false_positives: ClassVar[str] = (
        "Prices of centralised procurement beside those of the original brand, coupons, mistakes "
        "of pack size: check the invoice. Near-expiry clearance, gifts and split sales are left "
        "out."
    )
    false_positives_zh: ClassVar[str] = (
        "集中带量采购价与原研品牌价并存、优惠券、包装规格填错：请核对发票。近效期处理、赠品、"
        "拆零销售不参与判定。"
    )
    parameters: ClassVar[type[Parameters]] = AbnormalLowPriceParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}以单价{observed:.2f}元销售{drug}（批号{batch_no}）{code_count}个追溯码，"
        "此前{reference_days}天{channel_zh}渠道同品种中位价为{median:.2f}元（判定线"
        "{threshold:.2f}元，稳健z值{z:.1f}），价格异常偏低。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} code(s) of {drug} (batch {batch_no}) at "
        "{observed:.2f} CNY a pack; the {channel_en} median of the {reference_days} days before is "
        "{median:.2f} CNY (limit {threshold:.2f} CNY, robust z {z:.1f})."
    )

    def select(self, data: Slice, parameters: AbnormalLowPriceParameters) -> tuple[Rows, Verdict]:
        """Return the sales to judge (see the module's definition)."""
        batch, view = data.batch, data.registry
        n = len(data)
        medical = parties_of_type(data, MEDICAL_TYPES)
        index, channel = np.empty(n, np.int64), np.empty(n, np.int8)
        counts = np.zeros(1 + len(_REASONS), np.int64)
        m = _select(
            ROLE_OF,
            medical,
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
            channel,
            counts,
        )
        rest = index[:m]
        drug = batch.drug[rest]
        high_value = np.append((view.drug_classes & view.class_mask("high_value")) != 0, False)
        rows: Rows = {
            "seq": data.seq_base + rest,
            "time": batch.time[rest],
            "event_key": batch.event_key[rest],
            "drug": drug,
            "channel": channel[:m],
            "price": batch.price[rest],
            "packs": np.maximum(batch.quantity[rest], 1),
            "high_value": high_value[drug],
        }
        skipped = {r: int(c) for r, c in zip(_REASONS, counts[1:], strict=True) if c}
        return rows, Verdict(judged=m, skipped=skipped)

    def new_state(self) -> State:
        """Return empty state: a key space of drug and channel, and histograms by its ids."""
        state: State = {}
        KeySpace(state, "key")
        Histograms(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: AbnormalLowPriceParameters, last_day: int
    ) -> Hits | None:
        """Judge each day against the days before it, then add it to them."""
        n = len(rows["seq"])
        if n == 0:
            return None
        space, histograms = KeySpace(state, "key"), Histograms(state)
        first, second = np.empty(n, np.uint64), np.empty(n, np.uint64)
        _words(rows["drug"], rows["channel"], first, second)
        keys = space.ids(first, second)
        histograms.reserve(len(space))
        days = rows["time"] // DAY
        bounds = np.append(np.flatnonzero(np.diff(days, prepend=days[0] - 1)), n)
        parts: list[dict[str, npt.NDArray[Any]]] = []
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            day = int(days[begin])
            histograms.forget(day - parameters.reference_days)
            price = rows["price"][begin:end]
            fired = np.empty(end - begin, np.int64)
            median = np.empty(end - begin, np.float64)
            z = np.empty(end - begin, np.float64)
            m = _judge(
                keys[begin:end],
                price,
                state["pages"],
                state["counts"],
                state["summary"],
                np.full((len(space), 3), -1.0),
                parameters.minimum_reference_sales,
                parameters.ratio,
                parameters.robust_z,
                fired,
                median,
                z,
            )
            if m:
                parts.append({"row": begin + fired[:m], "median": median[:m], "z": z[:m]})
            histograms.add(day, keys[begin:end], price)
        if not parts:
            return None
        return self._hits(
            rows, parameters, {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        )

    @staticmethod
    def _hits(
        rows: Rows, parameters: AbnormalLowPriceParameters, found: dict[str, npt.NDArray[Any]]
    ) -> Hits:
        row, median = found["row"], found["median"]
        price = rows["price"][row].astype(np.float64)
        channel = rows["channel"][row]
        severity = 0.4 + 0.5 * (1.0 - price / median) + 0.2 * rows["high_value"][row]
        return Hits(
            seq=rows["seq"][row],
            observed=price / 100,
            threshold=parameters.ratio * median / 100,
            severity=np.clip(severity, 0, 1).astype(np.float32),
            amount=np.rint((median - price) * rows["packs"][row]).astype(np.int64),
            extra={
                "median": np.round(median / 100, 2),
                "z": np.round(found["z"], 2),
                "reference_days": np.full(len(row), parameters.reference_days, np.int64),
                "channel_zh": _CHANNEL_ZH[channel],
                "channel_en": _CHANNEL_EN[channel],
            },
        )

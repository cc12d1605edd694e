"""Gift of medicines 买赠处方药、甲类非处方药 (P7): given away to persons to sell something else.

Definition
----------
*Retail line*: an event of the kind retail sale with the signal ``NEW_SALE`` whose giver the registry
does not hold for a medical institution; or a gift shipment (212) without a receiver that names a
buyer, a platform or a shop: a gift to a person. (Gift bills between enterprises, 110 and 212, are
trade and not meant by the rule. Vaccination and dispensing are not retail.)

A retail line is *given* if it carries the gift flag or is a gift shipment, *free* if it does not and
its price is stated as 0, and *priced* if its price is above 0. A given or free line is judged if the
drug registry puts its drug in one of the classes ``rx``, ``otc_a`` and ``otc_b`` (else skipped as
``unknown_drug``, without a drug registry as ``no_registry``). Split sales are skipped
(``split_sale``): the price of a part may be rounded to nothing.

*Fires* on a judged line of a drug of class ``rx`` or ``otc_a`` that is

* given; or
* free, where the seller otherwise states prices: by the end of the day before it had at least
  ``minimum_priced`` priced lines, free lines were at most ``maximum_free`` of its priced and free
  lines, and on the day itself it has no more free than priced lines. (Systems that write 0 for an
  unknown price accuse nobody.)

The subject is the giver. observed = packs (quantity, at least 1), threshold = 0. Hits of one seller,
day, drug, batch number and case are one finding. Severity: given 0.6, free 0.4; online 0.1 more.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.keys import KeySpace, extended
from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._shared import parties_of_type
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
from trace_engine.events.batch import DAY, GIFT, ONLINE, SPLIT_SALE
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry.types import MEDICAL_TYPES

Int64 = npt.NDArray[np.int64]

_GIVEN, _FREE, _HABIT = 0, 1, 2
_RETAIL_SALE = int(EventKind.RETAIL_SALE)
_NEW_SALE, _GIFT, _DAY = np.uint32(NEW_SALE), np.uint8(GIFT), np.int64(DAY)
_PROBLEM_ZH = np.array(["标记为赠品", "售价为0元（该店平时大多有售价）"])
_PROBLEM_EN = np.array(
    ["marked as a gift", "at a price of 0, where this shop usually states prices"]
)


@kernel
def _sort_lines(
    sales: npt.NDArray[np.int64],
    signal: npt.NDArray[np.uint32],
    kind: npt.NDArray[np.int8],
    flags: npt.NDArray[np.uint8],
    price: npt.NDArray[np.int32],
    source: npt.NDArray[np.int32],
    time: npt.NDArray[np.int64],
    medical: npt.NDArray[np.bool_],
    place: npt.NDArray[np.int64],
    marked: npt.NDArray[np.int64],
    free: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    lines: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
) -> None:
    """Write retail lines marked as gifts, free ones, and by seller and day its priced and free lines.

    ``place`` (parties,): -1, filled with the seller's entry of the day. ``first`` (k,): an event of
    each entry. ``sizes``: of the three lists, and of all lines that state a price.
    """
    opened = 0  # entries of the day begin here
    today = np.int64(-1)
    for i in sales:
        giver = source[i]
        if (signal[i] & _NEW_SALE) == 0 or kind[i] != _RETAIL_SALE or giver < 0 or medical[giver]:
            continue
        if (flags[i] & _GIFT) != 0:
            marked[sizes[0]] = i
            sizes[0] += 1
            continue
        if price[i] < 0:
            continue
        sizes[3] += 1
        if time[i] // _DAY != today:
            today = time[i] // _DAY
            opened = sizes[2]
        entry = place[giver]
        if entry < opened:  # of an earlier day, or none
            entry = place[giver] = sizes[2]
            first[entry] = i
            lines[entry, 0] = lines[entry, 1] = 0
            sizes[2] += 1
        if price[i] > 0:
            lines[entry, 0] += 1
        else:
            lines[entry, 1] += 1
            free[sizes[1]] = i
            sizes[1] += 1


class GiftSaleParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`GiftSale`."""

    minimum_priced: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Fewest earlier lines with a price that make stating prices the habit",
            extra_json_schema={"unit": "lines", "zh": "此前至少有售价的销售行数"},
        ),
    ] = 30
    maximum_free: Annotated[
        float,
        msgspec.Meta(
            ge=0.0,
            le=1.0,
            description="Highest share of lines at price 0 of a seller that states prices",
            extra_json_schema={"unit": "share", "zh": "此前0元销售行最高占比"},
        ),
    ] = 0.1


class GiftSale(KeyedDetector[GiftSaleParameters]):
    """Prescription and class A over-the-counter drugs given away."""

    id: ClassVar[str] = "gift_sale"
    title_zh: ClassVar[str] = "买赠处方药、甲类非处方药"
    title_en: ClassVar[str] = "Medicines given away to the public"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "seller"
    rows: ClassVar[tuple[str, ...]] = ("P7",)
    basis: ClassVar[str] = (
        "《内蒙古自治区药品网络销售监督管理实施办法（试行）》第二十四条：不得以买药品赠药品、买商品"
        "赠药品等方式赠送处方药、甲类非处方药"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs", "gift or unit_price")
    false_positives: ClassVar[str] = (
        "Systems that write 0 for an unknown price (judged only where the seller usually states "
        "prices), free supplies of hospitals and vaccination (left out), parts of packs (left "
        "out), gifts between enterprises (not meant by the rule). Not kept out: points redeemed "
        "by members; look at the order."
    )
    false_positives_zh: ClassVar[str] = (
        "以0填报未知价格的系统（仅对平时填报价格的销售者判定）、医疗机构免费供药与接种（不计）、"
        "不足一个最小包装（不计）、企业之间的赠送（不属此条）。未排除：会员积分兑换，请核对订单。"
    )
    parameters: ClassVar[type[Parameters]] = GiftSaleParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}向个人赠送{class_zh}{drug}（批号{batch_no}）追溯码{code_count}个："
        "{problem_zh}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} gave {code_count} code(s) of {drug} (batch {batch_no}, {class_en}) to "
        "persons: {problem_en}."
    )

    def select(self, data: Slice, parameters: GiftSaleParameters) -> tuple[Rows, Verdict]:
        """Return given and free lines, and each seller's priced and free lines by day."""
        batch, view = data.batch, data.registry
        sales = data.rows_of(Role.PERSON_SALE)
        m, parties = len(sales), len(view.party_type)
        marked, free = np.empty(m, np.int64), np.empty(m, np.int64)
        first, lines = np.empty(m, np.int64), np.empty((m, 2), np.int64)
        sizes = np.zeros(4, np.int64)
        _sort_lines(
            sales,
            data.custody.signal,
            batch.kind,
            batch.flags,
            batch.price,
            batch.source,
            batch.time,
            parties_of_type(data, MEDICAL_TYPES),
            np.full(parties, -1, np.int64),
            marked,
            free,
            first,
            lines,
            sizes,
        )
        given = np.concatenate([marked[: sizes[0]], self._presents(data)])
        candidates = np.concatenate([given, free[: sizes[1]]])
        case = np.repeat([_GIVEN, _FREE], [len(given), len(candidates) - len(given)])
        index, case, level, skipped = self._judged(data, candidates, case)
        head = self._rows(data, index, case, level)
        first, lines = first[: sizes[2]], lines[: sizes[2]]
        nothing = np.zeros(len(first), np.int64)
        tail = self._rows(data, first, nothing + _HABIT, nothing)
        tail |= {"packs": nothing, "priced": lines[:, 0], "free": lines[:, 1]}
        rows = {name: np.concatenate([head[name], tail[name]]) for name in head}
        order = np.argsort(rows["time"], kind="stable")
        rows = {name: column[order] for name, column in rows.items()}
        judged = int(sizes[3]) + len(given) - sum(skipped.values())
        return rows, Verdict(judged=max(judged, 0), skipped=skipped)

    @staticmethod
    def _presents(data: Slice) -> Int64:
        """Return the gift shipments that go to persons."""
        batch = data.batch
        bills = data.rows_of(Role.SHIP)
        bills = bills[batch.kind[bills] == int(EventKind.GIFT_SHIPMENT)]
        person = (batch.buyer[bills] != 0) | ((batch.flags[bills] & ONLINE) != 0)
        person &= (batch.target[bills] < 0) & (batch.source[bills] >= 0)
        presents: Int64 = bills[person]
        return presents

    @staticmethod
    def _judged(
        data: Slice, rows: Int64, case: Int64
    ) -> tuple[Int64, Int64, Int64, dict[str, int]]:
        """Return the candidates that may fire, their cases and classes, and what was skipped."""
        batch, view = data.batch, data.registry
        if not view.has("drugs"):
            skipped = {"no_registry": len(rows)} if len(rows) else {}
            return rows[:0], case[:0], rows[:0], skipped
        classes = np.append(view.drug_classes, np.uint64(0))[batch.drug[rows]]
        whole = (batch.flags[rows] & SPLIT_SALE) == 0
        known = (classes & view.class_mask("rx", "otc_a", "otc_b")) != 0
        prescription = (classes & view.class_mask("rx")) != 0
        meant = whole & known & (prescription | ((classes & view.class_mask("otc_a")) != 0))
        counts = {
            "split_sale": int(np.count_nonzero(~whole)),
            "unknown_drug": int(np.count_nonzero(whole & ~known)),
        }
        level = np.where(prescription, 0, 1)[meant]
        return rows[meant], case[meant], level, {k: n for k, n in counts.items() if n}

    @staticmethod
    def _rows(data: Slice, index: Int64, case: Int64, level: Int64) -> Rows:
        batch = data.batch
        return {
            "seq": data.seq_base + index,
            "time": batch.time[index],
            "event_key": batch.event_key[index],
            "source": batch.source[index],
            "case": case.astype(np.int8),
            "level": level.astype(np.int8),
            "online": ((batch.flags[index] & ONLINE) != 0).astype(np.int8),
            "packs": np.maximum(batch.quantity[index].astype(np.int64), 1),
            "priced": np.zeros(len(index), np.int64),
            "free": np.zeros(len(index), np.int64),
        }

    def new_state(self) -> State:
        """Return empty state: by seller, priced and free lines of closed days."""
        state: State = {"habit": np.zeros((64, 2), np.int64)}
        KeySpace(state, "key")
        return state

    def advance(
        self, rows: Rows, state: State, parameters: GiftSaleParameters, last_day: int
    ) -> Hits | None:
        """Judge each day by the habits of the days before it, then add it to them."""
        n = len(rows["seq"])
        if n == 0:
            return None
        source = rows["source"].astype(np.int64).astype(np.uint64)
        keys = KeySpace(state, "key").ids(source, np.zeros(n, np.uint64))
        state["habit"] = habit = extended(state["habit"], int(keys.max()) + 1)
        case, day = rows["case"], rows["time"] // DAY
        lines = np.stack([rows["priced"], rows["free"]], 1)
        today = np.zeros_like(habit)
        fires = case == _GIVEN
        bounds = np.flatnonzero(np.diff(day, prepend=day[0] - 1, append=day[-1] + 1))
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            mine = keys[begin:end]
            np.add.at(today, mine, lines[begin:end])
            priced, free = habit[mine].T
            usual = (priced >= parameters.minimum_priced) & (
                free <= parameters.maximum_free * (priced + free)
            )
            usual &= today[mine, 1] <= today[mine, 0]
            fires[begin:end] |= (case[begin:end] == _FREE) & usual
            np.add.at(habit, mine, lines[begin:end])
            today[mine] = 0
        found = np.flatnonzero(fires)
        if len(found) == 0:
            return None
        case, level = case[found], rows["level"][found]
        severity = np.array([0.6, 0.4])[case] + 0.1 * rows["online"][found]
        return Hits(
            seq=rows["seq"][found],
            observed=rows["packs"][found].astype(np.float64),
            threshold=np.zeros(len(found)),
            severity=severity.astype(np.float32),
            group=(case + 1).astype(np.uint64),
            extra={
                "class_zh": np.array(["处方药", "甲类非处方药"])[level],
                "class_en": np.array(["prescription drug", "class A non-prescription drug"])[level],
                "problem_zh": _PROBLEM_ZH[case],
                "problem_en": _PROBLEM_EN[case],
            },
        )

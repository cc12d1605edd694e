"""Pass-through 走票 (G8): goods go through a company's books, but never through its hands.

Definition
----------
*Receipts* of X: events of role ``RECEIVE`` with a time of day and a bill, of a receiver X that is not
registered at the retail level, from a supplier S. *Dispatches* of X: events of role ``SHIP`` other than
direct shipment (207), with a time of day, a bill, a receiver Y and a ship-from region that lies in the
city of none of X's registered places (as ``remote_dispatch`` says it; X must have one). Skipped:
shipments without a stated region as ``no_region_stated``, of the others those whose giver or its places
are not known as ``unknown_seller``.

A dispatch *passes through* if the event of its code before it is a receipt of X of the same day, less
than ``minutes`` before, and the goods left from where the supplier is: the region stated in the dispatch
is the ship-from region that the receipt states, or S's registered region. S, X and Y must be three
strangers (no two of one registered group).

On each day, for each receipt bill and dispatch bill of X: common = codes of the dispatch bill that passed
through from that receipt bill; likeness (Jaccard) = common / (codes of the one + codes of the other -
common), each of that day.

*Fires* where the likeness is at least ``likeness`` and common at least ``codes``. observed = likeness,
threshold = ``likeness``. Subject: X, counterparty Y; the last common scan (by time, then event key) leads
and gives the time, the last of the receipt is evidence. amount: what the common codes cost Y.
Severity 0.7.

That an invoice names another seller than the goods' path is not judged: bills state an invoice's number,
not its seller.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors._places import apart_from_places
from trace_engine.detectors._scanning import days_in, runs, taken
from trace_engine.detectors._shared import parties_of_type
from trace_engine.detectors._trade import summed
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
from trace_engine.events.batch import DAY, MINUTE
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry.types import MEDICAL_TYPES, RETAIL_TYPES

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_RETAIL_LEVEL = [int(t) for t in RETAIL_TYPES | MEDICAL_TYPES]
_RECEIPT, _DISPATCH, _PASSED = 0, 1, 2
_DIRECT = int(EventKind.DIRECT_SHIPMENT)

# ``source`` is X in dispatches and what passed, ``target`` is X in receipts.
_COLUMNS: dict[str, Any] = {
    "seq": np.int64,
    "time": np.int64,
    "event_key": np.uint64,
    "part": np.int8,
    "source": np.int32,
    "target": np.int32,
    "supplier_party": np.int32,
    "bill": np.uint64,
    "receipt_bill": np.uint64,
    "codes": np.int64,
    "amount": np.int64,  # fen, of what passed through
    "region": np.int16,  # goods left from
    "longest": np.int64,  # µs between receipt and dispatch, at most
}

_TOLD = (
    "seq", "time", "source", "target", "supplier_party", "region", "codes", "amount", "longest",
)  # fmt: skip


class PassThroughParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PassThrough`."""

    likeness: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Least likeness (Jaccard) of the codes received and dispatched",
            extra_json_schema={"unit": "share", "zh": "收发追溯码集合的相似度下限"},
        ),
    ] = 0.95
    minutes: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1440.0,
            description="Receipt and dispatch of a code are less than this apart",
            extra_json_schema={"unit": "minutes", "zh": "收货与发货间隔上限"},
        ),
    ] = 30.0
    codes: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100_000,
            description="Fewest codes that both bills share",
            extra_json_schema={"unit": "codes", "zh": "共同追溯码数下限"},
        ),
    ] = 2


class PassThrough(KeyedDetector[PassThroughParameters]):
    """Bills in against bills out, by enterprise and day."""

    id: ClassVar[str] = "pass_through"
    title_zh: ClassVar[str] = "走票"
    title_en: ClassVar[str] = "Goods pass through the books only"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.NETWORK
    key: ClassVar[str] = "enterprise"
    rows: ClassVar[tuple[str, ...]] = ("G8",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：票、账、货、款不一致，为他人违法经营提供便利"
    )
    unit: ClassVar[str] = "share of codes"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "from_region", "bill_code")
    false_positives: ClassVar[str] = (
        "Direct shipment by order (207, 237), registered or entrusted warehouses near the "
        "supplier, trade inside a group, dates without a time, one single pack (all left out). "
        "Not kept out: a shared warehouse that the register does not know looks the same."
    )
    false_positives_zh: ClassVar[str] = (
        "按订单直调（207、237）、在供货方附近登记或委托的仓库、集团内部交易、只有日期没有时刻的单据、"
        "只有一个包装（均不计）。未排除：名录未登记的共用仓库看上去相同。"
    )
    parameters: ClassVar[type[Parameters]] = PassThroughParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}将自{supplier_party}购进的{drug}等追溯码{passed_codes}个在{dwell_minutes}分钟内原样"
        "销售给{counterparty}，收发两单追溯码相似度{observed:.2f}，且发货地为供货单位所在地"
        "{shipped_from_region}，货物未经其仓库，涉嫌走票。"
    )
    sentence_en: ClassVar[str] = (
        "At {time} {subject} sold on to {counterparty}, within {dwell_minutes} minutes, the "
        "{passed_codes} codes ({drug} and others) it had from {supplier_party} (likeness of the two "
        "bills {observed:.2f}); they left from {shipped_from_region}, where the supplier is, and never "
        "went through its own premises."
    )

    def select(self, data: Slice, parameters: PassThroughParameters) -> tuple[Rows, Verdict]:
        """Return receipts and dispatches by bill, and by both bills what passed through."""
        batch, view = data.batch, data.registry
        placed = np.diff(view.dispatch_offsets) > 0
        ships, booked = data.rows_of(Role.SHIP), data.rows_of(Role.RECEIVE)
        abroad, counts = np.empty(len(ships), np.int64), np.zeros(3, np.int64)
        m = _abroad(
            ships, batch.kind, batch.source, batch.target, batch.source_region,
            batch.bill, batch.time, placed, view.party_region, abroad, counts,
        )  # fmt: skip
        skipped = {"no_region_stated": int(counts[1]), "unknown_seller": int(counts[2])}
        verdict = Verdict(
            judged=int(counts[0]), skipped={reason: n for reason, n in skipped.items() if n}
        )
        abroad = abroad[:m].copy()
        abroad = abroad[apart_from_places(data, abroad, "city") >= 0]
        receipts = np.empty(len(booked), np.int64)
        trading = ~parties_of_type(data, _RETAIL_LEVEL)
        m = _booked(booked, batch.target, batch.bill, batch.time, trading, receipts)
        receipts = receipts[:m].copy()
        passed, before = _passed(data, abroad, parameters)
        nothing = np.zeros(0, np.uint64)
        parts = [
            _receipts(data, receipts),
            _rows(data, _DISPATCH, abroad),
            _rows(
                data,
                _PASSED,
                passed,
                supplier_party=batch.source[before],
                receipt_bill=batch.bill[before] if len(before) else nothing,
                region=batch.source_region[passed],
                amount=np.maximum(batch.price[passed], 0).astype(np.int64)
                * np.maximum(batch.quantity[passed], 1),
                longest=batch.time[passed] - batch.time[before],
            ),
        ]
        rows = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
        return taken(rows, np.argsort(rows["time"], kind="stable")), verdict

    def new_state(self) -> State:
        """Return empty state: all that is compared happened on one day."""
        return {}

    def advance(
        self, rows: Rows, state: State, parameters: PassThroughParameters, last_day: int
    ) -> Hits | None:
        """Compare bills day by day."""
        found: list[tuple[Any, ...]] = []
        passing_days = np.unique(rows["time"][rows["part"] == _PASSED] // DAY)
        for day, today in days_in(rows):
            if day in passing_days:
                found += _judge_day(today, parameters)
        if not found:
            return None
        m = len(found)
        likeness, receipt, *told = zip(*found, strict=True)
        by_name = {
            name: np.array(column, np.int64) for name, column in zip(_TOLD, told, strict=True)
        }
        return Hits(
            seq=by_name["seq"],
            time=by_name["time"],
            observed=np.array(likeness, np.float64),
            threshold=np.full(m, parameters.likeness),
            severity=np.full(m, 0.7, np.float32),
            subject=by_name["source"].astype(np.int32),
            counterparty=by_name["target"].astype(np.int32),
            amount=by_name["amount"],
            group=np.ones(m, np.uint64),
            related=np.array(receipt, np.int64).reshape(m, 1),
            extra={
                "supplier_party": by_name["supplier_party"].astype(np.int32),
                "shipped_from_region": by_name["region"].astype(np.int16),
                "passed_codes": by_name["codes"],
                "dwell_minutes": 1 + by_name["longest"] // MINUTE,
            },
        )


@kernel
def _abroad(
    ships: Int64,
    kind: npt.NDArray[np.int8],
    source: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    source_region: npt.NDArray[np.int16],
    bill: npt.NDArray[np.uint64],
    time: Int64,
    placed: Bools,
    party_region: npt.NDArray[np.int16],
    rows: Int64,
    counts: Int64,
) -> int:
    """Write shipments that left from a region other than the giver's own; return how many.

    ``counts``: judged, without a region, of an unknown giver or one without a place.
    """
    m = 0
    for k in range(len(ships)):
        i = ships[k]
        if kind[i] == _DIRECT:
            continue
        giver, region = source[i], source_region[i]
        if region < 0:
            counts[1] += 1
        elif giver < 0 or not placed[giver]:
            counts[2] += 1
        else:
            counts[0] += 1
            if (
                region != party_region[giver]
                and bill[i] != 0
                and target[i] >= 0
                and time[i] % DAY != 0
            ):
                rows[m] = i
                m += 1
    return m


@kernel
def _booked(
    receipts: Int64,
    target: npt.NDArray[np.int32],
    bill: npt.NDArray[np.uint64],
    time: Int64,
    trading: Bools,
    rows: Int64,
) -> int:
    """Write receipts with a bill and a time of a receiver above the retail level; return how many."""
    m = 0
    for k in range(len(receipts)):
        i = receipts[k]
        if target[i] >= 0 and trading[target[i]] and bill[i] != 0 and time[i] % DAY != 0:
            rows[m] = i
            m += 1
    return m


def _passed(data: Slice, abroad: Int64, p: PassThroughParameters) -> tuple[Int64, Int64]:
    """Return the dispatches that pass through, and the receipts before them, as rows."""
    batch, view = data.batch, data.registry
    before = data.custody.previous[abroad] - data.seq_base
    here = before >= 0  # of an earlier slice is of an earlier day
    abroad, before = abroad[here], before[here]
    supplier, through, buyer = batch.source[before], batch.source[abroad], batch.target[abroad]
    fits = np.isin(before, data.rows_of(Role.RECEIVE))
    fits &= (batch.target[before] == through) & (supplier >= 0) & (batch.bill[before] != 0)
    fits &= ~np.isin(view.party_type[through], _RETAIL_LEVEL)
    gap = batch.time[abroad] - batch.time[before]
    fits &= (gap >= 0) & (gap < p.minutes * MINUTE) & (batch.time[before] % DAY != 0)
    fits &= batch.time[before] // DAY == batch.time[abroad] // DAY
    region = batch.source_region[abroad]
    registered = np.append(view.party_region, np.int16(-1))[supplier]
    fits &= (region == batch.source_region[before]) | (region == registered)
    for one, other in ((supplier, through), (through, buyer), (supplier, buyer)):
        fits &= _strangers(data, one, other)
    return abroad[fits], before[fits]


def _strangers(data: Slice, one: npt.NDArray[np.int32], other: npt.NDArray[np.int32]) -> Bools:
    group = np.append(data.registry.party_group, np.int32(-1))
    found: Bools = (one != other) & ((group[one] < 0) | (group[one] != group[other]))
    return found


def _receipts(data: Slice, rows: Int64) -> Rows:
    """Return receipts summed by bill: there are many, and in honest trade nothing else."""
    last, codes, _ = summed(data, rows, data.batch.source, by_pack=False)
    return _columns(data, _RECEIPT, last, codes=codes)


def _rows(data: Slice, part: int, rows: Int64, **columns: npt.NDArray[Any]) -> Rows:
    """Return rows of a slice joined by their bills (of one day and one pair of enterprises)."""
    return _joined(_columns(data, part, rows, **columns))


def _columns(data: Slice, part: int, rows: Int64, **columns: npt.NDArray[Any]) -> Rows:
    """Return rows of a slice with every column; those not given are of one code."""
    batch = data.batch
    out: Rows = {
        "seq": data.seq_base + rows,
        "part": np.full(len(rows), part, np.int8),
        "codes": np.ones(len(rows), np.int64),
        "amount": np.zeros(len(rows), np.int64),
        "supplier_party": np.full(len(rows), -1, np.int32),
        "receipt_bill": np.zeros(len(rows), np.uint64),
        "region": np.full(len(rows), -1, np.int16),
        "longest": np.zeros(len(rows), np.int64),
    }
    for name in ("time", "event_key", "source", "target", "bill"):
        out[name] = getattr(batch, name)[rows]
    return out | columns


def _joined(rows: Rows) -> Rows:
    """Join rows of one part, day, pair of enterprises and bills; the last stands for them."""
    order, starts = runs(
        rows["part"], rows["time"] // DAY, rows["source"], rows["target"],
        rows["supplier_party"], rows["bill"], rows["receipt_bill"],
    )  # fmt: skip
    if len(order) == 0:
        return {name: rows[name] for name in _COLUMNS}
    group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = order[np.lexsort((rows["event_key"][order], rows["time"][order], group))]
    joined = taken({name: rows[name] for name in _COLUMNS}, order[starts[1:] - 1])
    joined["codes"] = np.add.reduceat(rows["codes"][order], starts[:-1])
    joined["amount"] = np.add.reduceat(rows["amount"][order], starts[:-1])
    joined["longest"] = np.maximum.reduceat(rows["longest"][order], starts[:-1])
    return joined


def _judge_day(today: Rows, p: PassThroughParameters) -> list[tuple[Any, ...]]:
    """Compare the bills of one day; rows of two engines may tell of the same ones."""
    today = _joined(today)
    part = today["part"]
    received = _by_bill(taken(today, part == _RECEIPT), "target")
    dispatched = _by_bill(taken(today, part == _DISPATCH), "source")
    passed = taken(today, part == _PASSED)
    found: list[tuple[Any, ...]] = []
    for i, (through, bill_in, bill_out, codes) in enumerate(
        zip(
            *(passed[name].tolist() for name in ("source", "receipt_bill", "bill", "codes")),
            strict=True,
        )
    ):
        of_receipt, (_, _, receipt) = received[through, bill_in]
        of_dispatch, _ = dispatched[through, bill_out]
        likeness = codes / (of_receipt + of_dispatch - codes)
        if codes >= p.codes and likeness >= p.likeness:
            found.append((likeness, receipt, *(int(passed[name][i]) for name in _TOLD)))
    return found


def _by_bill(rows: Rows, through: str) -> dict[tuple[int, int], tuple[int, tuple[int, int, int]]]:
    """Return the codes of each bill of an enterprise, and its last row: (time, event key, seq)."""
    found: dict[tuple[int, int], tuple[int, tuple[int, int, int]]] = {}
    names = (through, "bill", "codes", "time", "event_key", "seq")
    for party, bill, codes, *last in zip(*(rows[name].tolist() for name in names), strict=True):
        before, latest = found.get((party, bill), (0, (last[0], last[1], last[2])))
        found[party, bill] = (before + codes, max(latest, (last[0], last[1], last[2])))
    return found

"""Sold more than bought 销大于购 (P8): a seller sells more packs of a batch than ever came to it.

Definition
----------
*Holder*: the registered group of a party, or the party where it is in none (a head office buys for its
stores). *Product*: drugs of one approval number are one product (each pack level has an identifier of
its own); a drug without a number on record is one. *Book*: by holder, product and batch number.

*Received* packs (the event's quantity, at least 1; of a split 1), of the receiver's holder:

* events with the signal ``HOP`` or ``REDIRECTED`` (a shipment and its receipt are one hop), and those of a
  role of return, transfer or recall, unless the giver's holder is the same. (Bills of both sides of a
  return count both: in doubt more is taken to have come.)
* events of the roles ``CONSUMER_RETURN``, ``ORIGIN`` and ``STOCK_GAIN``.

*Sold* packs, of the giver's holder: events of role ``PERSON_SALE`` with the signal ``NEW_SALE`` (a split
sale is 1 pack), and events of role ``SHIP`` with the signal ``HOP``, other than direct shipments (207), to
another holder.

Events without a drug are in no book. Sales without a batch number are skipped (``no_batch``), those of a
giver that is not in the enterprise registry (``unknown_seller``) or that makes drugs (``maker``: MAH,
manufacturer) too; without that registry all (``no_registry``).

A book *cannot be judged* for ever from the day on which it holds an event of pack level above 1 that
states no quantity, or events of two drug identifiers of which one states no quantity: how many packs
these stood for is unknown.

At the end of each day on which a book sold something, it *fires* when it can be judged, received > 0,
``sold > received × (1 + tolerance)``, ``sold - received >= minimum_packs`` and ``sold - received`` is at
least twice that with which it fired last (forgotten on a day at whose end sold is at most received × (1 +
tolerance)). A finding stands only if the data begin before the earliest production day that the book's
events state does (no day stated: never): else there may have been a stock.

The finding: the first sale of the day (smallest time, then event key), its time that sale's, its subject
that sale's giver. observed = sold, threshold = received × (1 + tolerance). Severity = 0.5 + 0.2 × (sold /
received - 1), at most 0.9. One finding for each day and book.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.keys import KeySpace, extended, pair_all
from trace_engine.detectors._books import (
    BOOK_COLUMNS,
    COMES_IN,
    DRUG,
    GROUPED,
    LEAD,
    MADE,
    MAKER,
    NEW_SALE_BIT,
    NO_DAY,
    REGISTERED,
    SUM_SLOTS,
    approval_of_row,
    keep_books,
    sum_movements,
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
from trace_engine.registry.types import EnterpriseType

Int64 = npt.NDArray[np.int64]

_GROUPS = np.int64(1) << np.int64(32)  # holders that are groups are numbered after all parties
_APPROVALS = np.int64(1) << np.int64(31)  # products that are approvals, after all drugs

# Roles looked at together.
_ROLES = (
    (Role.SHIP,),
    (Role.PERSON_SALE,),
    tuple(role for role in Role if role not in (Role.NONE, Role.VOID, Role.SHIP, Role.PERSON_SALE)),
)
_MAKERS = [int(EnterpriseType.MAH), int(EnterpriseType.MANUFACTURER)]

_REASONS = ("no_registry", "no_batch", "unknown_seller", "maker")


class SaleExceedsPurchaseParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`SaleExceedsPurchase`."""

    tolerance: Annotated[
        float,
        msgspec.Meta(
            ge=0.0,
            le=10.0,
            description="Share of what came in by which sales may pass it",
            extra_json_schema={"unit": "share", "zh": "销量允许超过购进量的比例"},
        ),
    ] = 0.05
    minimum_packs: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Fewest packs too many",
            extra_json_schema={"unit": "packs", "zh": "至少多销的最小包装数"},
        ),
    ] = 10


class SaleExceedsPurchase(KeyedDetector[SaleExceedsPurchaseParameters]):
    """Packs sold against packs that came in, by batch."""

    id: ClassVar[str] = "sale_exceeds_purchase"
    title_zh: ClassVar[str] = "销大于购"
    title_en: ClassVar[str] = "Sold more than bought"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.QUANTITY
    key: ClassVar[str] = "seller (or its group), product and batch number"
    rows: ClassVar[tuple[str, ...]] = ("P8",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：购进销售渠道排查、篡改购销数据"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "batch_no", "production_date")
    false_positives: ClassVar[str] = (
        "Opening stock (only batches made after the data begin are judged), case codes scanned "
        "once (counted by their stated quantity, else the batch is not judged), stores supplied "
        "by their head office (one book for a group), bills that one side did not upload (either "
        "side's is enough)."
    )
    false_positives_zh: ClassVar[str] = (
        "期初库存（只判定数据开始以后生产的批次）、只扫一次的整箱码（按填报数量计，否则该批不判定）、"
        "由总部供货的门店（一个集团一本账）、只有一方上传的单据（任何一方的记录均有效）。"
    )
    parameters: ClassVar[type[Parameters]] = SaleExceedsPurchaseParameters
    sentence_zh: ClassVar[str] = (
        "截至{date}，{subject}累计销售{drug}（批号{batch_no}）{observed:.0f}个最小包装，而同期购进、调入等"
        "仅{received}个，销大于购{excess}个。"
    )
    sentence_en: ClassVar[str] = (
        "By {date} {subject} had sold {observed:.0f} packs of {drug} (batch {batch_no}), but only "
        "{received} had come in: {excess} too many."
    )

    def select(
        self, data: Slice, parameters: SaleExceedsPurchaseParameters
    ) -> tuple[Rows, Verdict]:
        """Return what came in and what was sold, summed by holder, drug, batch and day."""
        batch, view, n = data.batch, data.registry, len(data)
        if not view.has("enterprises"):
            sales = data.rows_of(Role.PERSON_SALE)
            total = int(np.count_nonzero(data.custody.signal[sales] & NEW_SALE_BIT))
            verdict = Verdict(skipped={"no_registry": total} if total else {})
            none = np.empty(0, np.int64)
            short = none.astype(np.int32)
            rows = self._rows(data, none, none.astype(np.uint64), none, none.astype(np.int8), short)
            return rows, verdict
        standing = data.table(_standing)
        level = batch.optional.get("pack_level")
        # An event may be a purchase and a sale. Untouched memory costs nothing.
        index, packs = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
        keys, lots = np.empty(2 * n, np.uint64), np.empty(2 * n, np.uint64)
        doubt, made = np.empty(2 * n, np.int8), np.empty(2 * n, np.int32)
        counts = np.zeros(1 + len(_REASONS), np.int64)
        slot = np.full(SUM_SLOTS, -1, np.int32)
        m = 0
        for roles in _ROLES:
            m = sum_movements(
                data.rows_of(*roles),
                m,
                ROLE_OF,
                COMES_IN,
                batch.kind,
                batch.flags,
                batch.source,
                batch.target,
                batch.drug,
                batch.batch_no,
                batch.quantity,
                batch.production,
                batch.time,
                batch.event_key,
                data.custody.signal,
                np.empty(0, np.int8) if level is None else level,
                view.party_group,
                standing,
                data.first_day * DAY,
                slot,
                index,
                keys,
                lots,
                packs,
                doubt,
                made,
                counts,
            )
        rows = self._rows(data, index[:m], keys[:m], packs[:m], doubt[:m], made[:m])
        skipped = {r: int(c) for r, c in zip(_REASONS, counts[1:], strict=True) if c}
        return rows, Verdict(judged=int(counts[0]), skipped=skipped)

    @staticmethod
    def _rows(
        data: Slice,
        index: Int64,
        keys: npt.NDArray[np.uint64],
        packs: Int64,
        doubt: npt.NDArray[np.int8],
        made: npt.NDArray[np.int32],
    ) -> Rows:
        batch, view = data.batch, data.registry
        order = np.argsort(batch.time[index], kind="stable")
        index, keys, packs = index[order], keys[order], packs[order]
        drug, holder = batch.drug[index], (keys >> np.uint64(1)).astype(np.int32)
        return {
            "seq": data.seq_base + index,
            "time": batch.time[index],
            "event_key": batch.event_key[index],
            "what": (keys & np.uint64(1)).astype(np.int8),
            "source": holder,
            "group": view.party_group[holder],
            "drug": drug,
            "approval": approval_of_row(view)[view.drug_row[drug]],
            "batch_no": batch.batch_no[index],
            "packs": packs,
            "doubt": doubt[order],
            "production": made[order],
        }

    def new_state(self) -> State:
        """Return empty state: a key space of books, and what stands in each."""
        state: State = {"books": np.zeros((0, BOOK_COLUMNS), np.int64)}
        KeySpace(state, "key")
        return state

    def advance(
        self, rows: Rows, state: State, parameters: SaleExceedsPurchaseParameters, last_day: int
    ) -> Hits | None:
        """Enter whole days into the books and return those that fired."""
        n = len(rows["seq"])
        if n == 0:
            return None
        group, approval = rows["group"].astype(np.int64), rows["approval"]
        holder = np.where(group >= 0, group + _GROUPS, rows["source"].astype(np.int64))
        product = np.where(approval >= 0, approval + _APPROVALS, rows["drug"].astype(np.int64))
        keys = KeySpace(state, "key").ids(
            holder.astype(np.uint64), pair_all(product, rows["batch_no"])
        )
        self._make_room(state, int(keys.max()) + 1)
        fired, found = np.empty(n, np.int64), np.empty((n, 3), np.int64)
        m = keep_books(
            rows["time"],
            rows["event_key"],
            rows["what"],
            rows["drug"],
            rows["packs"],
            rows["doubt"],
            rows["production"],
            keys,
            state["books"],
            parameters.tolerance,
            parameters.minimum_packs,
            np.empty(n, np.int64),
            fired,
            found,
        )
        if m == 0:
            return None
        lead, (sold, received, made) = fired[:m], found[:m].T
        return Hits(
            seq=rows["seq"][lead],
            observed=sold.astype(np.float64),
            threshold=received * (1.0 + parameters.tolerance),
            severity=np.clip(0.5 + 0.2 * (sold / received - 1), 0, 0.9).astype(np.float32),
            subject=rows["source"][lead].astype(np.int32),
            counterparty=np.full(m, -1, np.int32),
            history_since=made * DAY,
            group=np.ones(m, np.uint64),
            extra={"received": received.copy(), "excess": sold - received},
        )

    @staticmethod
    def _make_room(state: State, count: int) -> None:
        held = len(state["books"])
        if count <= held:
            return
        state["books"] = books = extended(state["books"], count)
        books[held:, MADE] = NO_DAY
        books[held:, DRUG] = -1
        books[held:, LEAD] = -1


def _standing(data: Slice) -> npt.NDArray[np.uint8]:
    """Return what is known of each party, as :func:`sum_movements` reads it."""
    view = data.registry
    standing = np.where(view.party_known, REGISTERED, 0)
    standing |= np.where(np.isin(view.party_type, _MAKERS), MAKER, 0)
    standing |= np.where(view.party_group >= 0, GROUPED, 0)
    return standing.astype(np.uint8)

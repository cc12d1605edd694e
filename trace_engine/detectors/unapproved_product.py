"""Unapproved product 未经批准的药品 (B11, B12): traded without an approval, or a foreign pack of none.

Definition
----------
Judged: events of role ``SHIP`` and ``PERSON_SALE`` with a known giver that name a drug. Skipped, in this
order: without a drug registry all of them (``no_registry``); drugs the registry does not know, unless
case 1 holds (``unknown_drug``: that is ``unknown_product``'s matter); registered drugs without a stated
approval number, unless case 1 holds (``no_approval_number``).

The *entry* is that of the event's drug, else that of the identifier in the code. Hospital preparations
and granules for TCM prescriptions have no approval number and are not judged by it
(``other_licence``). The first case that holds *fires*:

1. ``foreign``: the identifier in the code (or where it holds none, the drug stated) is a GTIN of 14
   digits of another country, and there is no entry, or one without an approval number. (GTINs of
   another country begin, after the first digit, with three digits that are neither 690 to 699, nor
   020 to 029, 040 to 049, 200 to 299: those shops give out themselves, nor 977 to 999.) A code with a
   wrong check digit or structure is not judged by it;
2. ``malformed``: the entry's approval number is none that exists (国药准字 + letter(s) + 8 digits, or a
   licence of old for imports);
3. ``lapsed``: the event states a production day later than the last day of the approval and
   ``renewal_days`` more (what was made in time may be sold until it expires);
4. ``before_approval``: the event's day is before the first day of the approval, and its number was
   given in the year of that day. (A later first day is that of a renewal: nothing follows from it.)

Several entries of one drug: the first of their first days and the last of their last days count.

The subject is the giver. observed = 1 event, threshold = 0 (the sentence tells the days). Hits of one
seller, day, drug, batch number and case are one finding. Severity: 0.7, 0.6, 0.6, 0.5.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors._approvals import (
    ALWAYS,
    BAD,
    GOOD,
    NEVER,
    NO_NUMBER,
    OTHER_LICENCE,
    approvals_of,
)
from trace_engine.detectors._shared import with_days
from trace_engine.detectors.base import (
    Detector,
    Evidence,
    Family,
    Parameters,
    Slice,
    Verdict,
    hits_of,
)
from trace_engine.events.batch import DAY, MISSING_DAY
from trace_engine.events.kinds import Role
from trace_engine.registry import RegistryView

Int64 = npt.NDArray[np.int64]
Days = npt.NDArray[np.int32]

# Classes of events that need no closer look, and of those that do.
_JUDGED, _UNKNOWN, _NUMBERLESS, _ELSE_LICENSED, _CLOSER = range(5)
_CLASSES = 5
_FOREIGN, _MALFORMED, _LAPSED, _BEFORE = range(4)
_SEVERITY = np.array([0.7, 0.6, 0.6, 0.5])
_ZH = (
    "追溯码中的商品条码为境外编码，且未登记药品批准文号",
    "登记的药品批准文号格式不成立",
    "生产日期在药品批准文号有效期届满之后{}天",
    "销售日期比药品批准之日早{}天",
)
_EN = (
    "its GTIN is one of another country and no approval is on record",
    "its approval number on record is none that exists",
    "it was made {} day(s) after its approval had ended",
    "it was sold {} day(s) before its approval began",
)


@kernel
def _sort_out(
    rows: Int64,
    source: Days,
    drug: Days,
    code_drug: Days,
    drug_row: Days,
    classes: npt.NDArray[np.int8],
    foreign: npt.NDArray[np.bool_],
    some: Int64,
    clear: Int64,
) -> int:
    """Write the events that need a closer look; return how many. ``clear``: others, by class.

    ``classes`` by row of ``drugs``, ``foreign`` by drug (both with an entry for -1 at the end).
    """
    m = 0
    for i in rows:
        stated, coded = drug[i], code_drug[i]
        if source[i] < 0 or (stated < 0 and coded < 0):
            continue
        entry = np.int64(-1) if stated < 0 else np.int64(drug_row[stated])
        if entry < 0 and coded >= 0:
            entry = np.int64(drug_row[coded])
        found = classes[entry]
        if found == _CLOSER or foreign[coded if coded >= 0 else stated]:
            some[m] = i
            m += 1
        else:
            clear[found] += 1
    return m


def _classes(data: Slice) -> npt.NDArray[np.int8]:
    """Return, by row of ``drugs``, what follows for drugs that are no foreign GTIN (last: unknown)."""
    approvals = approvals_of(data.registry)
    status = approvals.status
    dated = (approvals.first != ALWAYS) | (approvals.last != NEVER)
    classes = np.select(
        [
            (status == BAD) | ((status == GOOD) & dated),
            status == NO_NUMBER,
            status == OTHER_LICENCE,
        ],
        [_CLOSER, _NUMBERLESS, _ELSE_LICENSED],
        _JUDGED,
    ).astype(np.int8)
    classes[-1] = _UNKNOWN
    return classes


class UnapprovedProductParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`UnapprovedProduct`."""

    renewal_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=3650,
            description="Days after the last day of an approval in which its renewal may be pending",
            extra_json_schema={"unit": "days", "zh": "批准文号到期后再注册审批可能未完成的天数"},
        ),
    ] = 180


class UnapprovedProduct(Detector[UnapprovedProductParameters]):
    """Drugs traded against the approvals on record."""

    id: ClassVar[str] = "unapproved_product"
    title_zh: ClassVar[str] = "经营未经批准的药品"
    title_en: ClassVar[str] = "Unapproved product"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "none"
    rows: ClassVar[tuple[str, ...]] = ("B11", "B12")
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：经营无证产品；药品网络销售环节集中"
        "治理（宁药监函发〔2024〕11号）：销售未经注册批准的药品、销售跨境进口非法药品"
    )
    unit: ClassVar[str] = "events"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs",)
    false_positives: ClassVar[str] = (
        "Stocks made while the approval held (judged by the production day), renewals not yet on record "
        "(days of grace). Not kept out: packs admitted by name for one region (乐城、港澳药械通), see "
        "the permit; an entry of the registry written wrongly: if many sellers of one drug are named, "
        "check the registry first."
    )
    false_positives_zh: ClassVar[str] = (
        "批准文号有效期内生产的库存（按生产日期判断）、尚未登记的再注册（有宽限天数）。未排除："
        "经特许在个别区域使用的品种（乐城、港澳药械通），请核对许可；登记数据写错："
        "同一品种涉及多家销售者时，先核对登记数据。"
    )
    parameters: ClassVar[type[Parameters]] = UnapprovedProductParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}销售{drug}（批号{batch_no}）追溯码{code_count}个（如{code}）：{problem_zh}"
        "（登记文号：{approval}）。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} code(s) of {drug} (batch {batch_no}), such as {code}: "
        "{problem_en} (number on record: {approval})."
    )

    def judge(self, data: Slice, parameters: UnapprovedProductParameters) -> Verdict:
        """Judge what was shipped and sold in a slice."""
        batch, view = data.batch, data.registry
        rows = data.rows_of(Role.SHIP, Role.PERSON_SALE)
        if not view.has("drugs"):
            named = (batch.drug[rows] >= 0) | (batch.code_drug[rows] >= 0)
            total = int(np.count_nonzero(named & (batch.source[rows] >= 0)))
            return Verdict(skipped={"no_registry": total} if total else {})
        approvals = approvals_of(view)
        some, clear = np.empty(len(rows), np.int64), np.zeros(_CLASSES, np.int64)
        m = _sort_out(
            rows,
            batch.source,
            batch.drug,
            batch.code_drug,
            view.drug_row,
            data.table(_classes),
            approvals.foreign(),
            some,
            clear,
        )
        some = some[:m].copy()
        drug, coded = batch.drug[some], batch.code_drug[some]
        entry = np.append(view.drug_row, np.int32(-1))
        row = np.where(entry[drug] >= 0, entry[drug], entry[coded])
        status = approvals.status[row]
        told = np.where(coded >= 0, coded, drug)
        foreign = approvals.foreign()[told] & (batch.code_problem[some] == 0)
        foreign &= status == NO_NUMBER
        day = batch.time[some] // DAY
        made = batch.production[some].astype(np.int64)
        late = np.where(made == MISSING_DAY, 0, made - approvals.last[row].astype(np.int64))
        early = approvals.first[row].astype(np.int64) - day
        numbered = (status == GOOD) | (status == BAD)
        case = np.select(
            [
                foreign,
                status == BAD,
                numbered & (late > parameters.renewal_days),
                numbered & (early > 0),
            ],
            [_FOREIGN, _MALFORMED, _LAPSED, _BEFORE],
            -1,
        )
        skipped = {
            "unknown_drug": (row < 0) & ~foreign,
            "no_approval_number": (row >= 0) & (status == NO_NUMBER) & ~foreign,
            "other_licence": status == OTHER_LICENCE,
        }
        counts = {
            name: int(np.count_nonzero(which) + clear[number])
            for number, (name, which) in enumerate(skipped.items(), _UNKNOWN)
        }
        found = np.flatnonzero(case >= 0)
        case = case[found]
        days = np.where(case == _LAPSED, late[found], early[found])
        return Verdict(
            hits=hits_of(
                data,
                some[found],
                observed=1,
                threshold=0,
                severity=_SEVERITY[case],
                group=(case + 1).astype(np.uint64),
                extra={
                    "problem_zh": with_days(_ZH, case, days),
                    "problem_en": with_days(_EN, case, days),
                    "approval": self._numbers(view, row[found]),
                },
            ),
            judged=len(some) + int(clear.sum()) - sum(counts.values()),
            skipped={name: count for name, count in counts.items() if count},
        )

    @staticmethod
    def _numbers(view: RegistryView, rows: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
        """Return the approval number on record of each row, or a dash."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        table = view.registry.table("drugs")
        column = None
        if table is not None and "approval_no" in table.column_names:
            column = table.column("approval_no")
        texts = [
            "—" if column is None or row < 0 else str(column[row].as_py() or "—")
            for row in distinct.tolist()
        ]
        return np.array([*texts, ""], np.str_)[inverse]

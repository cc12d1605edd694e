"""Psychotropic sale 精神药品违规销售 (B5): sold by whom or how the law does not allow.

Definition
----------
A *psychotropic sale* is an event of role ``PERSON_SALE`` with the signal ``NEW_SALE`` of a drug that is
in the class ``psychotropic_1`` or ``psychotropic_2`` on the day of the sale (policy lists; the registry
where no rule dates the class). Skipped: without a drug registry all new sales to persons
(``no_registry``); drugs that cannot be classified (``unknown_drug``).

*Hospital sale*: the giver is a medical institution in the registry, or the kind is vaccination or
dispensing. *Shop sale*: any other whose giver the registry knows with a type. The first case that holds
decides:

1. ``class_1``: class I, a shop sale (only medical institutions may dispense class I): fires;
2. ``online``: a platform or shop is named (flag ``ONLINE``), by whomsoever: fires;
3. ``scope``: class II, a shop sale, the giver's business scope is on record, every term of it is
   understood, no change of scope is recorded after that day, and it does not hold ``psychotropic_2``:
   fires;
4. ``prescription``: class II, a shop sale without a prescription number: fires if by the end of the
   day before the giver had made at least ``minimum_statements`` shop sales of class II (of case 4, or
   with a number) with one, and these were at least ``share`` of all of them. A shop that keeps its
   prescriptions on paper states none and is not accused.

Skipped beside these: sales that are none of this because the type of the giver is unknown
(``unknown_seller``); all sales of a drug that was not in the class of that day ``grace_days`` before
(``new_schedule``: what was in stock when a schedule changed). Whether the buyer was a minor cannot be
seen in the events.

The subject is the giver. observed = packs (quantity, at least 1), threshold = 0. Hits of one seller,
day, drug, batch number and case are one finding. Severity: 0.95, 0.9, 0.8, 0.6 by case.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.keys import KeySpace, extended
from trace_engine.core.signals import NEW_SALE
from trace_engine.detectors._shared import categories_of
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
from trace_engine.events.batch import DAY, ONLINE, PRESCRIPTION
from trace_engine.events.kinds import EventKind, Role
from trace_engine.registry.types import MEDICAL_TYPES

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_CLASS_1, _ONLINE, _SCOPE, _UNSTATED, _STATED, _NOTHING = range(6)
_SEVERITY = np.array([0.95, 0.9, 0.8, 0.6])
_PROBLEM_ZH = np.array(
    [
        "第一类精神药品不得零售",
        "精神药品不得网络销售",
        "经营范围未包括第二类精神药品",
        "未记录处方（该店此类销售平时均有处方编号）",
    ]
)
_PROBLEM_EN = np.array(
    [
        "class I may not be sold at retail",
        "psychotropics may not be sold online",
        "class II is not in its business scope",
        "no prescription is on record, as it usually is for such sales of this shop",
    ]
)
_CLASS_ZH = np.array(["第一类", "第二类"])


class PsychotropicSaleParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PsychotropicSale`."""

    grace_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=366,
            description="Days after a drug was put on a schedule in which its sales are not judged",
            extra_json_schema={"unit": "days", "zh": "列管后不判的过渡期天数"},
        ),
    ] = 30
    minimum_statements: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=100_000,
            description="Fewest earlier sales with a prescription number that make it the habit",
            extra_json_schema={"unit": "sales", "zh": "此前至少有处方编号的销售笔数"},
        ),
    ] = 10
    share: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Lowest share of earlier sales with a prescription number",
            extra_json_schema={"unit": "share", "zh": "此前有处方编号的销售最低占比"},
        ),
    ] = 0.8


class PsychotropicSale(KeyedDetector[PsychotropicSaleParameters]):
    """Sales of psychotropics against who may sell them and how."""

    id: ClassVar[str] = "psychotropic_sale"
    title_zh: ClassVar[str] = "精神药品违规销售"
    title_en: ClassVar[str] = "Psychotropic drug sold against the rules"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CATEGORY
    key: ClassVar[str] = "seller"
    rows: ClassVar[tuple[str, ...]] = ("B5",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：药品零售企业违法违规销售精神药品；"
        "《药品网络销售禁止清单（第一版）》（国家药监局2022年第111号公告）一（一）"
    )
    unit: ClassVar[str] = "packs"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs", "registry.enterprises")
    false_positives: ClassVar[str] = (
        "Stock from before a drug was scheduled (days of grace), hospitals and clinics (left out "
        "but for sales online), prescriptions on paper (judged only where the shop usually "
        "states numbers), scopes that are blank, written in unknown terms or changed since (not "
        "judged)."
    )
    false_positives_zh: ClassVar[str] = (
        "列管之前的库存（有宽限天数）、医院和诊所（除网上销售外不计）、纸质处方（"
        "仅对平时填报处方号的店判定）、经营范围为空、用语不明或其后变更过的（不判定）。"
    )
    parameters: ClassVar[type[Parameters]] = PsychotropicSaleParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}销售{class_zh}精神药品{drug}（批号{batch_no}）追溯码{code_count}个："
        "{problem_zh}。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {code_count} code(s) of {drug} (batch {batch_no}), a psychotropic "
        "of class {class_en}: {problem_en}."
    )

    def select(self, data: Slice, parameters: PsychotropicSaleParameters) -> tuple[Rows, Verdict]:
        """Return the shop sales and online sales of psychotropics, each with its case."""
        batch = data.batch
        sales = data.rows_of(Role.PERSON_SALE)
        sales = sales[(data.custody.signal[sales] & np.uint32(NEW_SALE)) != 0]
        if not data.registry.has("drugs"):
            verdict = Verdict(skipped={"no_registry": len(sales)} if len(sales) else {})
            return self._rows(data, sales[:0], np.empty(0, np.int8), sales[:0]), verdict
        categories = categories_of(data)
        # One entry more in each, for a sale that names no drug (-1).
        first = np.append(categories.restricted("psychotropic_1", data.first_day), False)
        second = np.append(categories.restricted("psychotropic_2", data.first_day), False)
        judgeable = np.append(categories.judgeable, False)
        drug = batch.drug[sales]
        skipped = {"unknown_drug": int(np.count_nonzero(~judgeable[drug]))}
        sales = sales[(first | second)[drug] & judgeable[drug]]
        level = np.where(first[batch.drug[sales]], 1, 2)
        new = self._newly_scheduled(data, sales, level, parameters.grace_days)
        skipped["new_schedule"] = int(np.count_nonzero(new))
        sales, level = sales[~new], level[~new]
        case = self._cases(data, sales, level)
        skipped["unknown_seller"] = int(np.count_nonzero(case == -1))
        judged = int(np.count_nonzero(case != -1))
        kept = (case != -1) & (case != _NOTHING)
        rows = self._rows(data, sales[kept], case[kept], level[kept])
        return rows, Verdict(judged=judged, skipped={k: n for k, n in skipped.items() if n})

    @staticmethod
    def _newly_scheduled(data: Slice, sales: Int64, level: Int64, grace: int) -> Bools:
        """Return which sales are of a drug that was not in its class ``grace`` days before."""
        new = np.zeros(len(sales), np.bool_)
        if len(sales) == 0 or grace == 0:
            return new
        categories = categories_of(data)
        day = data.batch.time[sales] // DAY
        segments: dict[int, Bools] = {}
        for today in np.unique(day).tolist():
            number = data.policy.segment(today - grace)
            here = day == today
            for at in (1, 2):
                key = 2 * number + at - 1
                if key not in segments:
                    segments[key] = categories.restricted(f"psychotropic_{at}", today - grace)
                mine = here & (level == at)
                new[mine] = ~segments[key][data.batch.drug[sales[mine]]]
        return new

    @staticmethod
    def _cases(data: Slice, sales: Int64, level: Int64) -> npt.NDArray[np.int8]:
        """Return the case of each sale, -1 where the seller is not known well enough to judge."""
        batch, view = data.batch, data.registry
        giver = batch.source[sales]
        kinds = np.append(view.party_type, np.int8(0))[giver]
        medical = np.isin(kinds, [int(t) for t in MEDICAL_TYPES]) | np.isin(
            batch.kind[sales], [int(EventKind.VACCINATION), int(EventKind.DISPENSING)]
        )
        shop = ~medical & (kinds > 0)
        licences = view.licences
        row = np.append(view.party_row, np.int32(-1))[giver]
        allowed = (licences.scope[row] & view.class_mask("psychotropic_2")) != 0
        outside = licences.scope_known[row] & ~allowed
        outside &= batch.time[sales] // DAY >= licences.scope_since[row]
        stated = (batch.flags[sales] & PRESCRIPTION) != 0
        case = np.select(
            [
                shop & (level == 1),
                (batch.flags[sales] & ONLINE) != 0,
                shop & outside,
                shop & ~stated,
                shop & stated,
                medical,
            ],
            [_CLASS_1, _ONLINE, _SCOPE, _UNSTATED, _STATED, _NOTHING],
            -1,
        )
        return case.astype(np.int8)

    @staticmethod
    def _rows(data: Slice, index: Int64, case: npt.NDArray[np.int8], level: Int64) -> Rows:
        batch = data.batch
        return {
            "seq": data.seq_base + index,
            "time": batch.time[index],
            "event_key": batch.event_key[index],
            "source": batch.source[index],
            "packs": np.maximum(batch.quantity[index], 1),
            "case": case,
            "level": level.astype(np.int8),
        }

    def new_state(self) -> State:
        """Return empty state: by seller, sales of class II with and without a prescription."""
        state: State = {"habit": np.zeros((64, 2), np.int64)}
        KeySpace(state, "key")
        return state

    def advance(
        self, rows: Rows, state: State, parameters: PsychotropicSaleParameters, last_day: int
    ) -> Hits | None:
        """Judge each day by the habits of the days before it, then add it to them."""
        case = rows["case"]
        fires = case < _UNSTATED
        habit = np.flatnonzero((case == _UNSTATED) | (case == _STATED))
        source = rows["source"][habit].astype(np.int64).astype(np.uint64)
        keys = KeySpace(state, "key").ids(source, np.zeros(len(habit), np.uint64))
        state["habit"] = extended(state["habit"], int(keys.max(initial=-1)) + 1)
        day = rows["time"][habit] // DAY
        bounds = np.flatnonzero(np.diff(day, prepend=-1, append=-1)) if len(day) else day
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            today, unstated = keys[begin:end], case[habit[begin:end]] == _UNSTATED
            stated, missing = state["habit"][today].T
            usual = (stated >= parameters.minimum_statements) & (
                stated >= parameters.share * (stated + missing)
            )
            fires[habit[begin:end]] = unstated & usual
            np.add.at(state["habit"], (today, unstated.astype(np.int64)), 1)
        found = np.flatnonzero(fires)
        if len(found) == 0:
            return None
        case, level = case[found], rows["level"][found]
        return Hits(
            seq=rows["seq"][found],
            observed=rows["packs"][found].astype(np.float64),
            threshold=np.zeros(len(found)),
            severity=_SEVERITY[case].astype(np.float32),
            group=(case + 1).astype(np.uint64),
            extra={
                "class_zh": _CLASS_ZH[level - 1],
                "class_en": level.astype(np.int64),
                "problem_zh": _PROBLEM_ZH[case],
                "problem_en": _PROBLEM_EN[case],
            },
        )

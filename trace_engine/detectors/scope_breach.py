"""Scope breach 超范围/超方式经营 (G16): trade beyond what the licence allows.

Definition
----------
Needs ``registry.enterprises`` with types, and ``registry.drugs`` for the first rule (else trades are
skipped as ``no_registry``). Who acts is the giver of a shipment or sale, and the receiver of a receipt.

*Classes*. Judged are acts of distributors (wholesaler, chain headquarters, chain store, pharmacy)
whose scope the registry states in terms that are all understood; others of them are skipped as
``scope_unknown``, acts before the last change of the scope on record as ``scope_before_change``. The
act breaches the scope if the drug is

* in a *special* class that the scope does not name: narcotic, psychotropic_1, psychotropic_2,
  blood_product, vaccine, anabolic_or_peptide (insulin excepted), botulinum, toxic, toxic_tcm,
  radioactive, precursor; a class counts only if the drug was in it ``settling_days`` before as well
  (stock bought before a class changed may be sold off);
* or prescription-only (``rx``), or a class A or B over-the-counter drug (``otc_a``, ``otc_b``), where the
  scope names one of these three but none that the drug is in.

*Manner*. A sale to a person by a wholesaler or maker (MAH, manufacturer), unless a retailer is one legal
person with it. One such sale may be a wrong bill type: ``needed`` are wanted.

Retailers and medical institutions that sell on to enterprises are ``reverse_flow``'s alone, and no
licence at all is ``unlicensed_party``'s: one cause, one finding.

Cases (see ``_standing``) are kept apart by subject and class, or manner. observed: events of the case so
far, threshold: ``needed`` - 1 for the manner, 0 for classes. Severity: special class 0.7, manner 0.5,
others 0.4.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors._rights import RECEIVE, TRADE, row_of
from trace_engine.detectors._shared import categories_of
from trace_engine.detectors._standing import (
    advance_standing,
    days_at_least,
    hits_of_cases,
    new_standing_state,
    standing_rows,
    without_registry,
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
from trace_engine.policy import Policy
from trace_engine.registry.types import CLASS_ZH, EnterpriseType

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SPECIAL = (
    "narcotic", "psychotropic_1", "psychotropic_2", "blood_product", "vaccine",
    "anabolic_or_peptide", "botulinum", "toxic", "toxic_tcm", "radioactive", "precursor",
)  # fmt: skip
DISPENSING = ("rx", "otc_a", "otc_b")
MANNER = len(SPECIAL) + 1  # causes: a special class by its place, then dispensing, then the manner
_DISPENSED = len(SPECIAL)

_DISTRIBUTORS = [
    int(t)
    for t in (
        EnterpriseType.WHOLESALER,
        EnterpriseType.CHAIN_HQ,
        EnterpriseType.CHAIN_STORE,
        EnterpriseType.PHARMACY,
    )
]
_NO_RETAIL = [
    int(t) for t in (EnterpriseType.WHOLESALER, EnterpriseType.MAH, EnterpriseType.MANUFACTURER)
]
_WHAT_ZH = np.array(
    [f"超出经营范围经营{CLASS_ZH[name]}" for name in SPECIAL]
    + ["超出经营范围经营该类处方药或非处方药", "以批发或生产资质直接向个人销售药品"]
)
_WHAT_EN = np.array(
    [f"traded the class {name.replace('_', ' ')} beyond its scope" for name in SPECIAL]
    + ["traded a prescription or over-the-counter class beyond its scope",
       "sold to persons without a retail licence"]
)  # fmt: skip
_JUDGED, _UNREADABLE = 14, 15  # places of bits after those of the classes
_SEVERITY = np.array([0.7] * len(SPECIAL) + [0.4, 0.5])


class ScopeBreachParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`ScopeBreach`."""

    needed: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="Sales to persons that show a manner of trading and no wrong bill type",
            extra_json_schema={"unit": "sales", "zh": "认定批发企业零售所需的最少笔数"},
        ),
    ] = 3
    settling_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=3660,
            description="How long stock of a drug may be sold off after its class changed",
            extra_json_schema={"unit": "days", "zh": "药品类别调整后消化库存的天数"},
        ),
    ] = 180
    repeat_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=3660,
            description="When it is told again that the trade goes on",
            extra_json_schema={"unit": "days", "zh": "持续经营时再次提示的间隔天数"},
        ),
    ] = 30


class ScopeBreach(KeyedDetector[ScopeBreachParameters]):
    """Trades against scope and type of who acts."""

    id: ClassVar[str] = "scope_breach"
    title_zh: ClassVar[str] = "超范围或超方式经营"
    title_en: ClassVar[str] = "Beyond the scope of the licence"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.LICENCE
    key: ClassVar[str] = "enterprise and class"
    rows: ClassVar[tuple[str, ...]] = ("G16",)
    basis: ClassVar[str] = (
        "《药品管理法》第五十一条、第五十五条；《内蒙古自治区药品网络销售监督管理实施办法（试行）》"
        "第二十三条：经营方式、经营范围与许可证一致"
    )
    unit: ClassVar[str] = "events"
    needs: ClassVar[tuple[str, ...]] = (
        "registry.enterprises.type", "registry.enterprises.scope", "registry.drugs.classes",
    )  # fmt: skip
    false_positives: ClassVar[str] = (
        "Scopes written in terms not understood, or changed since (not judged), stock of a drug "
        "whose class changed (days to settle), insulin among peptide hormones (excepted), a "
        "single wrong bill type (several events are needed), wholesalers that are one legal "
        "person with a retailer and chain headquarters that upload for their stores (not judged "
        "for the manner)."
    )
    false_positives_zh: ClassVar[str] = (
        "用语无法识别的经营范围（不判定）、其后变更过的范围（不判定）、类别调整的品种的库存（"
        "有过渡天数）、肽类激素中的胰岛素（例外）、个别单据类型选错（须达一定笔数）、"
        "与零售企业同一法人的批发企业、为门店上传的连锁总部（经营方式不判定）。"
    )
    parameters: ClassVar[type[Parameters]] = ScopeBreachParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}涉嫌{what_zh}，当日{events}笔、{packs}个最小包装，累计{observed:.0f}笔，"
        "首笔为{drug}（追溯码{code}）。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} {what_en}: {events} event(s), {packs} pack(s) that day, "
        "{observed:.0f} so far, the first of {drug} (code {code})."
    )

    def select(self, data: Slice, parameters: ScopeBreachParameters) -> tuple[Rows, Verdict]:
        """Return the breaches of a slice, summed by case and day."""
        view, batch = data.registry, data.batch
        if not view.has("enterprises"):
            return without_registry(data)
        by_manner = self._by_manner(data)
        by_class, judged, skipped = self._by_class(data, parameters)
        rows = np.concatenate([by_manner, *(found for found, _ in by_class)])
        causes = np.repeat(
            np.array([MANNER, *(cause for _, cause in by_class)], np.int64),
            [len(by_manner), *(len(found) for found, _ in by_class)],
        )
        receipt = ROLE_OF[batch.kind[rows]] == RECEIVE
        subject = np.where(receipt, batch.target[rows], batch.source[rows])
        found = standing_rows(data, rows, subject=subject, cause=causes)
        return found, Verdict(
            judged=judged, skipped={reason: count for reason, count in skipped.items() if count}
        )

    @staticmethod
    def _by_manner(data: Slice) -> Int64:
        """Return sales to persons by those who may only trade with enterprises."""
        batch, may_not = data.batch, data.table(_may_not_retail)
        sales = data.rows_of(Role.PERSON_SALE)
        sales = sales[may_not[batch.source[sales]]]
        found: Int64 = sales[batch.target[sales] < 0]
        return found

    @staticmethod
    def _by_class(
        data: Slice, parameters: ScopeBreachParameters
    ) -> tuple[list[tuple[Int64, int]], int, dict[str, int]]:
        """Return the breaches of scopes as (rows, cause), the acts judged, and those skipped."""
        view, batch = data.registry, data.batch
        if not view.has("drugs"):
            return [], 0, {"no_registry": len(data.rows_of(*TRADE))}
        of = view.licences
        classes = _DrugClasses(data, parameters.settling_days)
        dispensing = view.class_mask(*DISPENSING)
        speaks = (of.scope & dispensing) != 0
        standing = data.table(_standing_of_party)
        rows, m = np.empty(len(batch), np.int64), 0
        judged = unreadable = 0
        for role in TRADE:
            actor = batch.target if role == Role.RECEIVE else batch.source
            trades = data.rows_of(role)
            m, able, unable = _candidates(
                trades, actor, batch.drug, classes.needed, standing, rows, m
            )
            judged += able
            unreadable += unable
        rows = np.sort(rows[:m])
        receipt = ROLE_OF[batch.kind[rows]] == RECEIVE
        row = row_of(data, np.where(receipt, batch.target[rows], batch.source[rows]))
        before = days_at_least(data, rows)[0] < of.scope_since[row]
        rows, row = rows[~before], row[~before]
        mask = classes.of(batch.drug[rows], batch.time[rows])
        lacks = mask & ~of.scope[row]
        found = []
        for place, name in enumerate(SPECIAL):
            breach = (lacks & view.class_mask(name)) != 0
            if breach.any():
                found.append((rows[breach], place))
        held = mask & dispensing
        breach = (held != 0) & ((held & of.scope[row]) == 0) & speaks[row]
        found.append((rows[breach], _DISPENSED))
        too_early = int(np.count_nonzero(before))
        skipped = {"scope_unknown": unreadable, "scope_before_change": too_early}
        return found, judged - too_early, skipped

    def new_state(self) -> State:
        """Return empty state: what is known of each case, classes and manners apart."""
        return {"classes": new_standing_state(), "manners": new_standing_state()}

    def advance(
        self, rows: Rows, state: State, parameters: ScopeBreachParameters, last_day: int
    ) -> Hits | None:
        """Tell each case when it begins, and again while it goes on."""
        manner = rows["cause"] == MANNER
        parts = []
        for name, chosen, needed in (
            ("classes", ~manner, 1),
            ("manners", manner, parameters.needed),
        ):
            mine = {column: values[chosen] for column, values in rows.items()}
            fired = advance_standing(mine, state[name], parameters.repeat_days, needed=needed)
            if fired is not None:
                parts.append((fired.rows, fired.so_far, np.full(len(fired), needed - 1.0)))
        if not parts:
            return None
        told = {name: np.concatenate([p[0][name] for p in parts]) for name in parts[0][0]}
        cause = told["cause"]
        return hits_of_cases(
            told,
            observed=np.concatenate([p[1] for p in parts]),
            threshold=np.concatenate([p[2] for p in parts]),
            severity=_SEVERITY[cause],
            cause=cause,
            counterparty=told["other_party"],
            extra={"what_zh": _WHAT_ZH[cause], "what_en": _WHAT_EN[cause]},
        )


@kernel
def _candidates(
    trades: Int64,
    actor: npt.NDArray[np.int32],
    drug: npt.NDArray[np.int32],
    needed: npt.NDArray[np.uint16],
    standing: npt.NDArray[np.uint16],
    rows: Int64,
    m: int,
) -> tuple[int, int, int]:
    """Write trades of a drug in a class that the scope of who acts lacks, after ``m`` others.

    ``needed`` by drug and ``standing`` by party: classes, as :func:`_short` says. Returns how many
    rows there are, and how many trades were judged and not understood. Without a branch: rows are
    written over until one is kept.
    """
    judged = unreadable = 0
    for i in trades:
        of_actor = standing[actor[i]]
        judged += int(of_actor >> _JUDGED) & 1
        unreadable += int(of_actor >> _UNREADABLE)
        rows[m] = i
        m += int((needed[drug[i]] & of_actor) != 0)
    return m, judged, unreadable


def _short(data: Slice, masks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """Return masks of classes with a bit for each special and dispensing class, in their order."""
    short = np.zeros(len(masks), np.uint16)
    for place, name in enumerate((*SPECIAL, *DISPENSING)):
        short |= np.where(masks & data.registry.class_mask(name), 1 << place, 0).astype(np.uint16)
    return short


def _standing_of_party(data: Slice) -> npt.NDArray[np.uint16]:
    """Return, by party, the classes that the scope lacks and the bits _JUDGED and _UNREADABLE.

    One entry more, for the party -1; nothing is lacking where a scope is not judged.
    """
    view = data.registry
    of, party = view.licences, view.party_row
    dispensing = view.class_mask(*DISPENSING)
    speaks = (of.scope & dispensing) != 0
    lacking = ~of.scope & (view.class_mask(*SPECIAL) | np.where(speaks, dispensing, np.uint64(0)))
    lacks = _short(data, lacking) | np.uint16(1 << _JUDGED)
    by_row = np.where(of.scope_known, lacks, np.uint16(1 << _UNREADABLE))
    distributor = np.isin(view.party_type, _DISTRIBUTORS)
    return np.append(np.where(distributor, by_row[party], np.uint16(0)), np.uint16(0))


def _may_not_retail(data: Slice) -> Bools:
    """Return, by party and for the party -1, who may trade with enterprises only."""
    view = data.registry
    may_not = np.isin(view.party_type, _NO_RETAIL)
    may_not &= ~view.licences.sells_retail[view.party_row]
    return np.append(may_not, False)


def _first_day(policy: Policy, day: int) -> int:
    """Return one day for all that have the policy of ``day``: when it began, or the day before."""
    changes = policy.change_days()
    number = policy.segment(day)
    if number:
        return changes[number - 1]
    return changes[0] - 1 if changes else 0


def _masks(data: Slice, _policy: Policy, now: int, then: int) -> npt.NDArray[np.uint64]:
    """Return the special and dispensing classes by drug, with one entry more for the drug -1."""
    view, categories = data.registry, categories_of(data)
    insulin = categories.restricted("insulin", now)
    mask = np.zeros(len(view.drug_row) + 1, np.uint64)
    for name in SPECIAL:
        member = categories.restricted(name, now) & categories.restricted(name, then)
        if name == "anabolic_or_peptide":
            member &= ~insulin
        mask[:-1][member] |= view.class_mask(name)
    mask[:-1] |= view.drug_classes & view.class_mask(*DISPENSING)
    return mask


def _short_masks(data: Slice, policy: Policy, now: int, then: int) -> npt.NDArray[np.uint16]:
    return _short(data, data.table(_masks, policy, now, then))


class _DrugClasses:
    """Masks of the special and dispensing classes by drug, for the days of a slice.

    The lists change on some days, ``settling_days`` later for what is asked here: a slice may hold
    days on both sides of that.
    """

    def __init__(self, data: Slice, settling_days: int) -> None:
        policy = data.policy
        first = int(data.batch.time[0]) // DAY if len(data) else data.first_day
        self._first = min(first, data.first_day)
        days = np.arange(self._first, data.last_day + 1)
        begins = [_first_day(policy, int(day) - settling_days) for day in days]
        distinct, self._table_of = np.unique(begins, return_inverse=True)
        now = _first_day(policy, data.first_day)
        self.mask = np.stack([data.table(_masks, policy, now, then) for then in distinct.tolist()])
        short = [data.table(_short_masks, policy, now, then) for then in distinct.tolist()]
        # By drug: classes that it is in on some day.
        self.needed = short[0] if len(short) == 1 else np.bitwise_or.reduce(short, axis=0)

    def of(self, drug: npt.NDArray[np.int32], time: Int64) -> npt.NDArray[np.uint64]:
        """Return the classes of drugs at a time, shape ``(m,)``."""
        day = np.clip(time // DAY - self._first, 0, len(self._table_of) - 1)
        found: npt.NDArray[np.uint64] = self.mask[self._table_of[day], drug]
        return found

"""Licence invalid 资质过期/注销 (S1, S2): trade by, or with, somebody whose licence does not hold.

Definition
----------
Needs ``registry.enterprises`` (else all trades are skipped as ``no_registry``). *Trades* are events of
role ``SHIP``, ``RECEIVE`` and ``PERSON_SALE``. Trades acted by a party that is not registered are
skipped as ``not_registered`` (they are ``unlicensed_party``'s).

An event happened on a day between ``at_least`` and ``at_most`` (its day, the clock being off by
``general.clock_skew_minutes``; a date alone is that day). The licence of a registered party *does not
hold* for an event, by the first of these reasons that holds:

* ``revoked``, ``cancelled``, ``suspended``: a closed time (see ``registry.licences``) began before
  ``at_least - t`` and ended after ``at_most``; of several the latest begun. The day of the decision
  itself is left out: what happened on it may have come before.
* ``not_yet``: ``at_most`` lies before the day of its first issue, where that is on record. (Where it is
  not, a day before ``licence_from`` says nothing: the register holds the present licence only, and the
  one before it is unknown. Such trades are counted as ``earlier_licence_unknown``.)
* ``expired``: ``at_least - t`` lies more than ``grace_days`` after ``licence_to``, and no renewal or
  issue since a year before ``licence_to`` is on record up to ``at_most``.

``t`` is 0 for the acts of the party itself, and ``transit_days`` for receipts (the goods were sent
before) and for what others do with it (they may not know at once).

*Sides*. Of a giver whose licence does not hold: its shipments and sales are its own trade (subject the
giver); a receipt from it is a purchase from it (subject the receiver, other party the giver). Of a
receiver: its receipts are its own trade; a shipment to it is a sale to it (subject the giver, other
party the receiver). Events between one and the same party count once, as the giver's.

*Numbers* (S2): the licence number is malformed, the credit code is malformed (form, check character),
or another firm is registered under the same licence number (each a reason of its own; only for types
that need a drug licence). They are the party's own, on any of its own trades, and told once.

Cases (see ``_standing``) are kept apart by subject, other party, reason and side; those of numbers never
repeat. observed: events of that day, threshold 0. Severity: revoked 0.9, cancelled 0.8, suspended 0.7,
not yet issued 0.7, expired 0.5, shared number 0.5, malformed number 0.3; dealing with such a party 0.2
less.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._rights import RECEIVE, row_of, trades_of
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
from trace_engine.registry.licences import (
    ALWAYS,
    LICENCE_MALFORMED,
    LICENCE_SHARED,
    NEVER,
    USCC_MALFORMED,
    Licences,
)

Int64 = npt.NDArray[np.int64]

# Reasons; the first three are those of ``registry.licences``.
SUSPENDED, CANCELLED, REVOKED, NOT_YET, EXPIRED = 1, 2, 3, 4, 5
SHARED_NUMBER, BAD_LICENCE_NO, BAD_USCC = 6, 7, 8
OWN, BOUGHT_FROM, SOLD_TO = 0, 1, 2
_SIDES = 3

_SEVERITY = np.array([0.0, 0.7, 0.8, 0.9, 0.7, 0.5, 0.5, 0.3, 0.3])
_REASON_ZH = np.array(
    ["", "的许可处于暂停状态", "的许可证已注销", "的许可证已吊销", "的许可证尚未核发", "的许可证已过期",
     "的许可证编号与其他企业重复", "的许可证编号格式不合法", "的统一社会信用代码校验不符"]
)  # fmt: skip
_REASON_EN = np.array(
    ["", "its licence is suspended", "its licence is cancelled", "its licence is revoked",
     "its licence is not yet issued", "its licence has expired",
     "another firm is registered under its licence number", "its licence number is malformed",
     "its credit code is malformed"]
)  # fmt: skip
_SIDE_ZH = np.array(["经营", "从其购进", "向其销售"])
_SIDE_EN = np.array(["traded", "bought from it", "sold to it"])
_NUMBER_REASONS = (
    (LICENCE_SHARED, SHARED_NUMBER),
    (LICENCE_MALFORMED, BAD_LICENCE_NO),
    (USCC_MALFORMED, BAD_USCC),
)
_FOR_EVER = 100_000  # days


def why_not(
    licences: Licences, row: Int64, low: Int64, high: Int64, tolerance: Int64, grace_days: int
) -> tuple[Int64, Int64]:
    """Return the reason why each licence does not hold (0 it does), and since which day.

    ``row``: rows of ``enterprises`` (-1 none); ``low``, ``high``: the days at least and at most;
    ``tolerance``: days taken off the former. All of shape ``(m,)``, as are the results.
    """
    reason, since = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
    late = low - tolerance
    valid_to, issued = licences.valid_to[row].astype(np.int64), licences.issued[row]
    expired = (valid_to < NEVER) & (late > valid_to + grace_days) & (licences.renewed[row] > high)
    reason[expired], since[expired] = EXPIRED, valid_to[expired] + 1
    not_yet = (issued > ALWAYS) & (high < issued)
    reason[not_yet], since[not_yet] = NOT_YET, issued[not_yet]
    first, last = licences.closed_offsets[row], licences.closed_offsets[row + 1]
    outside = row < 0
    first, last = np.where(outside, 0, first), np.where(outside, 0, last)
    for nth in range(int((last - first).max(initial=0))):
        at = np.flatnonzero(first + nth < last)
        place = first[at] + nth
        inside = (licences.closed_from[place] < late[at]) & (licences.closed_to[place] > high[at])
        at, place = at[inside], place[inside]
        reason[at], since[at] = licences.closed_why[place], licences.closed_from[place]
    return reason, since


class LicenceInvalidParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`LicenceInvalid`."""

    grace_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=366,
            description="How long after the end of a licence its renewal may reach the registry",
            extra_json_schema={"unit": "days", "zh": "许可证到期后等待换证信息更新的天数"},
        ),
    ] = 30
    transit_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=90,
            description="How long goods may be under way, and word of a decision",
            extra_json_schema={"unit": "days", "zh": "在途货物和处理决定传达所需的天数"},
        ),
    ] = 7
    repeat_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=3660,
            description="When it is told again that the trade goes on",
            extra_json_schema={"unit": "days", "zh": "持续经营时再次提示的间隔天数"},
        ),
    ] = 30


class LicenceInvalid(KeyedDetector[LicenceInvalidParameters]):
    """Trades against the licences of both sides."""

    id: ClassVar[str] = "licence_invalid"
    title_zh: ClassVar[str] = "资质过期、注销或不实"
    title_en: ClassVar[str] = "Licence not valid"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.LICENCE
    key: ClassVar[str] = "enterprise"
    rows: ClassVar[tuple[str, ...]] = ("S1", "S2")
    basis: ClassVar[str] = (
        "《药品管理法》第五十一条、第五十五条；药品经营环节“清源”巩固提升行动（药监综药管"
        "〔2026〕22号）：无证经营药品、伪造资质证明"
    )
    unit: ClassVar[str] = "events"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises",)
    false_positives: ClassVar[str] = (
        "A renewal that the registry does not show yet (days of grace; renewals in "
        "licence_events count), the licence before the one on record (not judged), goods and "
        "news under way (some days allowed), the day of the decision itself (left out), returns "
        "and recalls by a closed enterprise (no trade), branches under their head office's "
        "number (one firm), a number mistyped in the registry (low severity, told once)."
    )
    false_positives_zh: ClassVar[str] = (
        "名录尚未登记的换证（有宽限天数；许可事项变更表中的换证有效）、现证之前的旧证（不判定）、"
        "在途货物与尚未获知的消息（容许若干天）、作出决定当日（不计）、停业企业的退货与召回（不是经营）、"
        "共用总部证照编号的分支机构（算一家）、名录中编号录错（风险程度低，只报一次）。"
    )
    parameters: ClassVar[type[Parameters]] = LicenceInvalidParameters
    sentence_zh: ClassVar[str] = (
        "{holder_party}{reason_zh}{since_zh}，{subject}于{date}仍{side_zh}药品，当日涉及{events}笔、"
        "{packs}个最小包装，首笔为{drug}（追溯码{code}）。"
    )
    sentence_en: ClassVar[str] = (
        "{holder_party}: {reason_en}{since_en}; {subject} {side_en} on {date}: {events} event(s), "
        "{packs} pack(s) that day, the first of {drug} (code {code})."
    )

    def select(self, data: Slice, parameters: LicenceInvalidParameters) -> tuple[Rows, Verdict]:
        """Return the trades in which a licence does not hold, summed by case and day."""
        view, batch = data.registry, data.batch
        if not view.has("enterprises"):
            return without_registry(data)
        licences = view.licences
        first = int(batch.time[0]) // DAY if len(batch) else data.first_day
        doubtful, unknown = _doubtful(licences, first, data.last_day + 1, parameters)
        rows, judged, strangers = trades_of(data, doubtful | unknown)
        found = self._wrong(data, rows, doubtful, parameters)
        # Acts of parties whose licence on record began later, and whose first issue nobody knows.
        receipt = ROLE_OF[batch.kind[rows]] == RECEIVE
        actor = row_of(data, np.where(receipt, batch.target[rows], batch.source[rows]))
        early = licences.valid_from[actor].astype(np.int64) * DAY > batch.time[rows]
        too_early = int(np.count_nonzero(early & unknown[actor]))
        skipped = {"not_registered": strangers, "earlier_licence_unknown": too_early}
        return found, Verdict(
            judged=judged - too_early,
            skipped={reason: count for reason, count in skipped.items() if count},
        )

    def _wrong(
        self,
        data: Slice,
        rows: Int64,
        doubtful: npt.NDArray[np.bool_],
        parameters: LicenceInvalidParameters,
    ) -> Rows:
        batch = data.batch
        licences = data.registry.licences
        low, high = days_at_least(data, rows)
        receipt = ROLE_OF[batch.kind[rows]] == RECEIVE
        sale = batch.target[rows] < 0
        source, target = batch.source[rows], batch.target[rows]
        pieces: list[tuple[Int64, Int64, Int64, Int64, Int64]] = []
        for holder, other, own_act in ((source, target, ~receipt), (target, source, receipt)):
            row = row_of(data, holder)
            mine = doubtful[row]
            if holder is target:
                mine &= (target != source) & ~sale
            side = np.where(own_act, OWN, np.where(receipt, BOUGHT_FROM, SOLD_TO))
            mine &= (side == OWN) | (other >= 0)
            at = np.flatnonzero(mine)
            tolerance = np.where(receipt[at] | (side[at] != OWN), parameters.transit_days, 0)
            reason, since = why_not(
                licences, row[at], low[at], high[at], tolerance, parameters.grace_days
            )
            subject = np.where(side[at] == OWN, holder[at], other[at])
            partner = np.where(side[at] == OWN, -1, holder[at])
            wrong = reason > 0
            causes = reason * _SIDES + side[at]
            pieces.append(tuple(c[wrong] for c in (at, subject, partner, causes, since)))  # type: ignore[arg-type]
            own = at[side[at] == OWN]
            for bit, number_reason in _NUMBER_REASONS:
                bad = own[(licences.number_problem[row[own]] & bit) != 0]
                same = np.full(len(bad), number_reason * _SIDES, np.int64)
                nobody, today = np.full(len(bad), -1, np.int64), low[bad]
                pieces.append((bad, holder[bad].astype(np.int64), nobody, same, today))
        at, subject, partner, causes, since = (
            np.concatenate(columns) for columns in zip(*pieces, strict=True)
        )
        return standing_rows(
            data,
            rows[at],
            subject=subject.astype(np.int32),
            other=partner.astype(np.int32),
            cause=causes,
            since=since * DAY,
        )

    def new_state(self) -> State:
        """Return empty state: what is known of each case, licences and numbers apart."""
        return {"licences": new_standing_state(), "numbers": new_standing_state()}

    def advance(
        self, rows: Rows, state: State, parameters: LicenceInvalidParameters, last_day: int
    ) -> Hits | None:
        """Tell each case when it begins, and again while it goes on."""
        number = rows["cause"] // _SIDES >= SHARED_NUMBER
        parts: list[Rows] = []
        for name, chosen, repeat in (
            ("licences", ~number, parameters.repeat_days),
            ("numbers", number, _FOR_EVER),
        ):
            mine = {column: values[chosen] for column, values in rows.items()}
            fired = advance_standing(mine, state[name], repeat)
            if fired is not None:
                parts.append(fired.rows)
        if not parts:
            return None
        told = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        return _hits(told)


def _doubtful(
    licences: Licences, first_day: int, last_day: int, parameters: LicenceInvalidParameters
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return, by row, whose licence may not hold between two days, and whose is not known then."""
    doubtful = (licences.valid_to < last_day - parameters.grace_days) | (
        licences.number_problem != 0
    )
    doubtful |= licences.issued >= first_day
    closed = licences.closed_from < last_day
    lists = np.repeat(np.arange(len(doubtful)), np.diff(licences.closed_offsets))
    doubtful[lists[closed]] = True
    unknown = (licences.valid_from > first_day) & (licences.issued == ALWAYS)
    doubtful[-1] = unknown[-1] = False
    return doubtful, unknown


def _hits(told: Rows) -> Hits:
    reason, side = told["cause"] // _SIDES, told["cause"] % _SIDES
    number = reason >= SHARED_NUMBER
    day = told["time"] // DAY
    gap = np.abs(day - told["since"] // DAY)
    severity = _SEVERITY[reason] - 0.2 * (side != OWN)
    holder = np.where(side == OWN, told["subject_party"], told["other_party"])
    since_zh, since_en = [], []
    for of_number, begin, days, early in zip(
        number.tolist(),
        np.datetime_as_string((told["since"] // DAY).astype("M8[D]")).tolist(),
        gap.tolist(),
        (reason == NOT_YET).tolist(),
        strict=True,
    ):
        word_zh, word_en = ("核发日", "issued on") if early else ("自", "since")
        end_zh = f"，早{days}天" if early else f"起，第{days}天"
        since_zh.append("" if of_number else f"（{word_zh}{begin}{end_zh}）")
        since_en.append("" if of_number else f" ({word_en} {begin}, {days} day(s))")
    return hits_of_cases(
        told,
        observed=told["events"],
        threshold=0,
        severity=severity,
        cause=told["cause"],
        counterparty=told["other_party"],
        extra={
            "holder_party": holder.astype(np.int32),
            "reason_zh": _REASON_ZH[reason],
            "reason_en": _REASON_EN[reason],
            "side_zh": _SIDE_ZH[side],
            "side_en": _SIDE_EN[side],
            "since_zh": np.array(since_zh, np.str_),
            "since_en": np.array(since_en, np.str_),
        },
    )

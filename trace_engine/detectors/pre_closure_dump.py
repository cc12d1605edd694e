"""Pre-closure dump 突击注销 (G11): an enterprise sells off as never before, and closes.

Definition
----------
Needs ``registry.enterprises`` (else all are skipped as ``no_registry``). A *closing* of an enterprise is
a day c on which it was suspended or its licence was cancelled (today's status or a licence event;
revocations are the authority's and come unasked). *Outflow*: its shipments (role ``SHIP``) to others
than its group, and its sales to persons, in packs; returns to suppliers and recalls are none: they are
how a business is wound up.

Week k of a closing is the seven days that end 7k days before c (week 0 ends on the day before c). Only
whole weeks since its first outflow within ``window_days`` + ``history_days`` before c count. The weeks
that begin within ``window_days`` before c are judged, the oldest first: a week's *usual* weeks are all
older ones that were not unusual themselves, at least ``minimum_weeks``. With their mean m and sample
deviation s, and n of them, its z = (packs - m) / (max(s, √m, 1) × √(1 + 1/n)). It is *unusual* if
z >= ``z``, packs >= ``ratio`` × m and packs >= ``minimum_packs``.

A closing with an unusual week *fires* once, when an event of c or later has been seen: at c, never
before. observed = the highest z, threshold = ``z``. It leads on the first outflow of the week with the
highest z (the older of equals); the first outflow of each other day of unusual weeks is related (at
most 16, oldest first). Severity 0.4 + 0.02 × (z - threshold), at most 0.7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._rights import SHIP, row_of
from trace_engine.detectors._standing import standing_rows, sum_by_day
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
from trace_engine.registry.licences import CANCELLED, SUSPENDED

Int64 = npt.NDArray[np.int64]

RELATED = 16  # further events shown with a finding
_WHY_ZH = {SUSPENDED: "暂停经营", CANCELLED: "注销许可证"}
_WHY_EN = {SUSPENDED: "was suspended", CANCELLED: "had its licence cancelled"}
_REASONS = 4  # a closing is day × _REASONS + reason in one number


class PreClosureDumpParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`PreClosureDump`."""

    window_days: Annotated[
        int,
        msgspec.Meta(
            ge=7,
            le=366,
            description="How long before the closing outflow is looked at",
            extra_json_schema={"unit": "days", "zh": "注销或暂停前考察的天数"},
        ),
    ] = 90
    history_days: Annotated[
        int,
        msgspec.Meta(
            ge=28,
            le=1096,
            description="How long before that the usual outflow is taken from",
            extra_json_schema={"unit": "days", "zh": "此前用于比较的天数"},
        ),
    ] = 180
    minimum_weeks: Annotated[
        int,
        msgspec.Meta(
            ge=3,
            le=104,
            description="Usual weeks that a comparison needs",
            extra_json_schema={"unit": "weeks", "zh": "比较所需的最少周数"},
        ),
    ] = 6
    z: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=100,
            description="Standard deviations above the usual week",
            extra_json_schema={"unit": "z", "zh": "高于平常周出库量的标准差倍数"},
        ),
    ] = 3.0
    ratio: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=100,
            description="Times the usual week",
            extra_json_schema={"unit": "ratio", "zh": "相当于平常周出库量的倍数"},
        ),
    ] = 2.0
    minimum_packs: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Packs of a week below which nothing is told",
            extra_json_schema={"unit": "packs", "zh": "每周最少最小包装数"},
        ),
    ] = 50


class PreClosureDump(KeyedDetector[PreClosureDumpParameters]):
    """Weekly outflow of enterprises that close."""

    id: ClassVar[str] = "pre_closure_dump"
    title_zh: ClassVar[str] = "注销或停业前突击出货"
    title_en: ClassVar[str] = "Sold off before closing"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.QUANTITY
    key: ClassVar[str] = "enterprise"
    rows: ClassVar[tuple[str, ...]] = ("G11",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：对申请集中注销药品批发企业、申请暂停"
        "经营药品零售企业，重点排查非法渠道购进、违规销售药品"
    )
    unit: ClassVar[str] = "z"
    needs: ClassVar[tuple[str, ...]] = (
        "registry.enterprises.status_date or registry.licence_events",
    )
    false_positives: ClassVar[str] = (
        "Stock given back to suppliers or moved inside a group (no outflow), revocations (not "
        "asked for), a young enterprise (a least number of weeks is needed). Not kept out: a "
        "season in which all sell more; look at its neighbours."
    )
    false_positives_zh: ClassVar[str] = (
        "库存退回供货方或在集团内转移（不算出货）、被吊销（不问）、开业不久（须有足够周数）。未排除："
        "全行业旺季，请与邻近同类企业对照。"
    )
    parameters: ClassVar[type[Parameters]] = PreClosureDumpParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{closing_time}{why_zh}，此前{window_days}天内有{weeks}周出库异常，共{packs}个最小包装，"
        "平常每周约{usual:.0f}个，最高一周超出平常{observed:.1f}个标准差（如{drug}，追溯码{code}）。"
    )
    sentence_en: ClassVar[str] = (
        "{subject} {why_en} on {closing_time}. In {weeks} week(s) of the {window_days} days before it "
        "gave out {packs} packs, unlike its usual week of about {usual:.0f}: the highest is "
        "{observed:.1f} standard deviations above (such as {drug}, code {code})."
    )

    def select(self, data: Slice, parameters: PreClosureDumpParameters) -> tuple[Rows, Verdict]:
        """Return the outflow of enterprises that close, by closing and day, and the time it is."""
        view, batch = data.registry, data.batch
        rows = data.rows_of(Role.SHIP, Role.PERSON_SALE)
        if not view.has("enterprises"):
            skipped = {"no_registry": len(rows)} if len(rows) else {}
            return _outflow(data, rows[:0], rows[:0]), Verdict(skipped=skipped)
        of = view.licences
        owner = np.repeat(np.arange(len(of.closed_offsets) - 1), np.diff(of.closed_offsets))
        asked_for = np.isin(of.closed_why, [SUSPENDED, CANCELLED])
        horizon = parameters.window_days + parameters.history_days
        near = asked_for & (of.closed_from > data.first_day)
        near &= of.closed_from.astype(np.int64) - horizon <= data.last_day
        closing = np.zeros(len(of.valid_to), np.bool_)
        closing[owner[near]] = True
        party = np.append(closing[view.party_row], False)  # one more, for the party -1
        rows = rows[party[batch.source[rows]]]
        group = np.append(view.party_group, np.int32(-1))
        giver, receiver = group[batch.source[rows]], group[batch.target[rows]]
        inside = (ROLE_OF[batch.kind[rows]] == SHIP) & (giver >= 0) & (giver == receiver)
        rows = rows[~inside]
        # An enterprise may have closed several times: each event counts for every closing ahead.
        row = row_of(data, batch.source[rows])
        first, last = of.closed_offsets[row], of.closed_offsets[row + 1]
        sizes = last - first
        place = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        place += np.repeat(first, sizes)
        event = np.repeat(rows, sizes)
        ahead = of.closed_from[place].astype(np.int64) - batch.time[event] // DAY
        counted = asked_for[place] & (ahead > 0) & (ahead <= horizon)
        event, place = event[counted], place[counted]
        closings = of.closed_from[place].astype(np.int64) * _REASONS + of.closed_why[place]
        found = _outflow(data, event, closings, clock=bool(asked_for.any()) and len(data) > 0)
        return found, Verdict(judged=len(rows))

    def new_state(self) -> State:
        """Return empty state: the outflow by closing and day."""
        return {"closings": {}}

    def advance(
        self, rows: Rows, state: State, parameters: PreClosureDumpParameters, last_day: int
    ) -> Hits | None:
        """Remember outflow, and judge the closings whose day has come."""
        closings: dict[str, list[list[int]]] = state["closings"]
        if len(rows["time"]) == 0:
            return None
        today = int(rows["time"].max()) // DAY
        outflow = rows["subject_party"] >= 0
        for key, entry in _days(sum_by_day({n: c[outflow] for n, c in rows.items()})):
            closings.setdefault(key, []).append(entry)
        found = []
        for key in sorted(closings):
            party, closing = (int(part) for part in key.split(":"))
            if closing // _REASONS > today:
                continue
            told = _judge(closings.pop(key), closing // _REASONS, parameters)
            if told is not None:
                found.append((party, closing, told))
        return _hits(found, parameters) if found else None


def _outflow(data: Slice, events: Int64, closings: Int64, clock: bool = False) -> Rows:
    """Return outflow by closing and day; with ``clock`` and a row of nobody that tells the time."""
    giver = data.batch.source[events] if len(events) else np.empty(0, np.int32)
    found = standing_rows(data, events, subject=giver, cause=closings)
    if not clock:
        return found
    end = np.array([len(data) - 1])
    time = standing_rows(data, end, subject=np.array([-1], np.int32), cause=-1)
    return {name: np.concatenate([column, time[name]]) for name, column in found.items()}


def _days(rows: Rows) -> Iterator[tuple[str, list[int]]]:
    """Yield closing, and day, packs, amount and lead of each row."""
    columns = ("subject_party", "cause", "time", "packs", "amount", "seq")
    order = np.argsort(rows["time"], kind="stable")
    for party, closing, time, packs, amount, seq in zip(
        *(rows[name][order].tolist() for name in columns), strict=True
    ):
        yield f"{party}:{closing}", [time // DAY, packs, amount, seq]


def _judge(
    entries: list[list[int]], closing: int, parameters: PreClosureDumpParameters
) -> dict[str, Any] | None:
    """Return what is to be told of a closing, None if no week was unusual."""
    weeks = (closing - entries[0][0]) // 7
    packs, amount = [0] * weeks, [0] * weeks
    for day, day_packs, day_amount, _ in entries:
        k = (closing - 1 - day) // 7
        if k < weeks:
            packs[k] += day_packs
            amount[k] += day_amount
    judged = min(weeks, parameters.window_days // 7)
    usual = packs[judged:]
    scores: dict[int, float] = {}
    for k in range(judged - 1, -1, -1):
        score = z_score(packs[k], usual, parameters.minimum_weeks)
        enough = packs[k] >= parameters.minimum_packs
        if score is not None and enough and score >= parameters.z:
            mean = sum(usual) / len(usual)
            if packs[k] >= parameters.ratio * mean:
                scores[k] = score
                continue
        usual.append(packs[k])
    if not scores:
        return None
    best = max(scores, key=lambda k: (scores[k], k))
    mine = [e for e in entries if (closing - 1 - e[0]) // 7 in scores]
    lead = next(e for e in mine if (closing - 1 - e[0]) // 7 == best)
    return {
        "z": scores[best],
        "weeks": len(scores),
        "packs": sum(packs[k] for k in scores),
        "amount": sum(amount[k] for k in scores),
        "usual": sum(usual) / len(usual),
        "seq": lead[3],
        "related": [e[3] for e in mine if e is not lead][:RELATED],
    }


def z_score(packs: int, usual: list[int], minimum_weeks: int) -> float | None:
    """Return how far a week lies above the usual ones; None where they are too few."""
    n = len(usual)
    if n < minimum_weeks:
        return None
    mean = sum(usual) / n
    deviation = math.sqrt(sum((x - mean) ** 2 for x in usual) / (n - 1))
    spread = max(deviation, math.sqrt(mean), 1.0)
    return (packs - mean) / (spread * math.sqrt(1 + 1 / n))


def _hits(
    found: list[tuple[int, int, dict[str, Any]]], parameters: PreClosureDumpParameters
) -> Hits:
    m = len(found)
    closing = np.array([c // _REASONS for _, c, _ in found], np.int64)
    why = [c % _REASONS for _, c, _ in found]

    def column(name: str, dtype: Any = np.int64) -> npt.NDArray[Any]:
        return np.array([told[name] for _, _, told in found], dtype)

    related = np.full((m, RELATED), -1, np.int64)
    for i, (_, _, told) in enumerate(found):
        related[i, : len(told["related"])] = told["related"]
    z = column("z", np.float64)
    return Hits(
        seq=column("seq"),
        time=closing * DAY,
        observed=z,
        threshold=np.full(m, parameters.z),
        severity=np.clip(0.4 + 0.02 * (z - parameters.z), 0.4, 0.7).astype(np.float32),
        subject=np.array([party for party, _, _ in found], np.int32),
        counterparty=np.full(m, -1, np.int32),
        group=closing.astype(np.uint64) + np.uint64(1),
        amount=column("amount"),
        related=related,
        extra={
            "closing_time": closing * DAY,
            "why_zh": np.array([_WHY_ZH[w] for w in why], np.str_),
            "why_en": np.array([_WHY_EN[w] for w in why], np.str_),
            "weeks": column("weeks"),
            "packs": column("packs"),
            "usual": column("usual", np.float64),
            "window_days": np.full(m, parameters.window_days),
        },
    )

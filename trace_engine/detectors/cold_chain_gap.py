"""Cold chain broken 冷链脱离 (S23): readings outside the range, or bills without the usual reading.

Definition
----------
Judged: shipments, receipts, transfers (roles ``SHIP``, ``RECEIVE``, ``TRANSFER_SHIP``,
``TRANSFER_RECEIVE``) and sales to persons of a drug that the drug registry puts in the class
``cold_chain``. Returns, recalls and destruction are left out: goods go back because of what a reading
showed. Without a drug registry nothing is judged (``no_registry``). Readings above 60 °C or below
-100 °C are no readings of goods (skipped as ``implausible_reading``); those below ``frozen_below`` are
of goods kept frozen, whose range the registry does not say (``frozen``). Both count as readings below.

1. ``outside``: a reading below ``low`` - ``tolerance`` or above ``high`` + ``tolerance`` *fires*.
   Subject: the giver, else the actor: who gives the goods away answers for their carriage. Severity:
   0.5 + 0.02 for each degree beyond, at most 1. observed = 1 bill, threshold = 0.
2. ``unread``: of the movements but sales, the bills of one actor and event type (an event without a
   bill counts as a bill) are judged as ``_statement`` says of purchases: a bill is bare if none of its
   rows has a reading. So it *fires* where the actor otherwise reads that kind of bill and has many
   more gaps than usual. Subject: the actor. Severity 0.3. observed = bare bills of the last
   ``window_days`` days, threshold = those expected.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._quota import days_of, part
from trace_engine.detectors._retail import RELATED, optional, related_to
from trace_engine.detectors._statement import (
    Gap,
    StatementParameters,
    gap_state,
    gaps_of_day,
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
from trace_engine.events.batch import MISSING_DAY
from trace_engine.events.kinds import Role

_MOVES = (
    Role.SHIP, Role.RECEIVE, Role.TRANSFER_SHIP, Role.TRANSFER_RECEIVE, Role.PERSON_SALE,
)  # fmt: skip
_JUDGED = np.zeros(len(Role), np.bool_)
_JUDGED[[int(role) for role in _MOVES]] = True

DEGREE = 1000  # readings are thousandths of °C
_HOTTEST, _COLDEST = 60 * DEGREE, -100 * DEGREE


class ColdChainGapParameters(StatementParameters, frozen=True, kw_only=True):
    """Thresholds of :class:`ColdChainGap`."""

    low: Annotated[
        float,
        msgspec.Meta(
            ge=-100,
            le=60,
            description="Lowest temperature of goods of the class cold_chain",
            extra_json_schema={"unit": "°C", "zh": "冷链药品温度下限"},
        ),
    ] = 2.0
    high: Annotated[
        float,
        msgspec.Meta(
            ge=-100,
            le=60,
            description="Highest temperature of goods of the class cold_chain",
            extra_json_schema={"unit": "°C", "zh": "冷链药品温度上限"},
        ),
    ] = 8.0
    tolerance: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=10,
            description="What a sensor may be wrong by",
            extra_json_schema={"unit": "°C", "zh": "温度传感器误差"},
        ),
    ] = 0.5
    frozen_below: Annotated[
        float,
        msgspec.Meta(
            ge=-100,
            le=0,
            description="Readings below are of goods kept frozen",
            extra_json_schema={"unit": "°C", "zh": "低于此值视为冷冻品种"},
        ),
    ] = -10.0


class ColdChainGap(KeyedDetector[ColdChainGapParameters]):
    """Readings of cold-chain goods, and bills that lack them."""

    id: ClassVar[str] = "cold_chain_gap"
    title_zh: ClassVar[str] = "冷链脱离"
    title_en: ClassVar[str] = "Cold chain broken"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.CODE
    key: ClassVar[str] = "actor and event type"
    rows: ClassVar[tuple[str, ...]] = ("S23",)
    basis: ClassVar[str] = (
        "《内蒙古自治区药品网络销售监督管理实施办法（试行）》第三十三条：严禁冷藏、冷冻药品"
        "运输配送过程脱离冷链管理"
    )
    unit: ClassVar[str] = "events"
    needs: ClassVar[tuple[str, ...]] = ("registry.drugs", "temperature")
    false_positives: ClassVar[str] = (
        "Sensors that are half a degree off (tolerated), goods kept frozen and impossible "
        "readings (not judged), goods sent back because they were too warm (left out), loggers "
        "that fail now and then (compared with the actor's own earlier days), actors that never "
        "report readings (not judged). Not kept out: readings in degrees Fahrenheit."
    )
    false_positives_zh: ClassVar[str] = (
        "温度探头偏差半度（容许）、冷冻品种及不合理读数（不判定）、因超温而退回的货物（不计）、"
        "温度记录仪偶尔失灵（与其自身以往水平相比）、从不上报温度的企业（不判定）。未排除："
        "以华氏度填报的读数。"
    )
    parameters: ClassVar[type[Parameters]] = ColdChainGapParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{time}发出或经手的冷链药品{drug}（批号{batch_no}，{packs_zh}，单据{bill}）{case_zh}。"
    )
    sentence_en: ClassVar[str] = (
        "Cold-chain goods that {subject} sent or handled at {time} ({drug}, batch {batch_no}, "
        "{code_count} code(s), bill {bill}): {case_en}."
    )

    def select(self, data: Slice, parameters: ColdChainGapParameters) -> tuple[Rows, Verdict]:
        """Return movements of cold-chain goods with their reading."""
        batch, view = data.batch, data.registry
        skipped: dict[str, int] = {}
        mask = view.class_mask("cold_chain")
        rows = np.empty(0, np.int64)
        if not view.has("drugs"):
            stated = int(np.count_nonzero(optional_stated(data)))
            skipped = {"no_registry": stated} if stated else {}
        elif mask:
            cold = np.append((view.drug_classes & mask) != 0, False)
            rows = np.flatnonzero(cold[batch.drug])
            rows = rows[_JUDGED[ROLE_OF[batch.kind[rows]]]]
        reading = optional(batch, "temperature", rows, MISSING_DAY, np.int32)
        known = reading != MISSING_DAY
        absurd = known & ((reading > _HOTTEST) | (reading < _COLDEST))
        frozen = known & ~absurd & (reading < parameters.frozen_below * DEGREE)
        for reason, left_out in (
            ("no_temperature", ~known), ("implausible_reading", absurd), ("frozen", frozen),
        ):  # fmt: skip
            if left_out.any():
                skipped[reason] = int(np.count_nonzero(left_out))
        low, high = _range(parameters)
        judged = known & ~absurd & ~frozen
        outside = judged & ((reading < low) | (reading > high))
        bill = batch.bill[rows]
        giver, actor = batch.source[rows], batch.actor[rows]
        role = ROLE_OF[batch.kind[rows]]
        columns: Rows = {
            "seq": data.seq_base + rows,
            "time": batch.time[rows],
            "event_key": batch.event_key[rows],
            "source": actor,
            "subject": np.where(giver >= 0, giver, actor).astype(np.int32),
            "platform": np.full(len(rows), -1, np.int32),
            "branch": batch.kind[rows],
            "purchase": np.where(bill != 0, bill, batch.event_key[rows]),
            "stated": known,
            "sale": role == int(Role.PERSON_SALE),
            "outside": outside,
            "reading": reading,
        }
        keep = outside | ~columns["sale"]
        return part(columns, keep), Verdict(judged=int(judged.sum()), skipped=skipped)

    def new_state(self) -> State:
        """Return empty state."""
        return gap_state()

    def advance(
        self, rows: Rows, state: State, parameters: ColdChainGapParameters, last_day: int
    ) -> Hits | None:
        """Report readings outside the range, and bills that lack theirs, day by day."""
        low, high = _range(parameters)
        at = np.flatnonzero(rows["outside"])
        reading = rows["reading"][at]
        beyond = np.where(reading > high, reading - high, low - reading) / DEGREE
        gaps: list[Gap] = []
        subjects: list[int] = []
        movements = part(rows, ~rows["sale"])
        for day, today in days_of(movements):
            found = gaps_of_day(state, day, today, parameters)
            gaps += found
            subjects += [int(today["source"][gap.row]) for gap in found]
        m, g = len(at), len(gaps)
        if m + g == 0:
            return None
        degrees = [f"{value / DEGREE:.1f}" for value in reading.tolist()]
        limits = f"{parameters.low:g}–{parameters.high:g} ℃"
        missing = [f"{gap.bare}" for gap in gaps]
        zh = [f"温度{t} ℃，超出{limits}" for t in degrees]
        zh += [f"{parameters.window_days}天内{n}张单据没有平时都有的温度记录" for n in missing]
        en = [f"read {t} °C, outside {limits}" for t in degrees]
        en += [
            f"{n} bills in {parameters.window_days} days lack the reading they usually have"
            for n in missing
        ]
        severity = np.concatenate([np.clip(0.5 + 0.02 * beyond, 0, 1), np.full(g, 0.3)])
        related = np.full((m + g, RELATED), -1, np.int64)
        related[m:] = related_to([gap.related for gap in gaps])
        return Hits(
            seq=np.concatenate([rows["seq"][at], np.array([gap.seq for gap in gaps], np.int64)]),
            observed=np.concatenate([np.ones(m), np.array([float(gap.bare) for gap in gaps])]),
            threshold=np.concatenate([np.zeros(m), np.array([gap.expected for gap in gaps])]),
            severity=severity.astype(np.float32),
            subject=np.concatenate([rows["subject"][at], np.array(subjects, np.int32)]).astype(
                np.int32
            ),
            group=np.concatenate([_groups(rows, at), np.full(g, 1, np.uint64)]),
            related=related,
            extra={"case_zh": np.array(zh), "case_en": np.array(en)},
        )


def optional_stated(data: Slice) -> npt.NDArray[np.bool_]:
    """Return which events have a reading, shape ``(n,)``, or an empty array if none has."""
    column = data.batch.optional.get("temperature")
    return np.empty(0, np.bool_) if column is None else column != MISSING_DAY


def _range(p: ColdChainGapParameters) -> tuple[int, int]:
    """Return the lowest and highest reading that is in order, thousandths of °C."""
    return round((p.low - p.tolerance) * DEGREE), round((p.high + p.tolerance) * DEGREE)


def _groups(rows: Rows, at: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the bill of each row, kept apart from the group 1 of unread bills."""
    purchase = rows["purchase"][at].astype(np.uint64)
    return np.where(purchase == 1, np.uint64(2), purchase)

"""Licence churn 频繁变更 (G11): an enterprise that changes its licence again and again, and trades.

Definition
----------
Needs ``registry.licence_events`` (else trades are skipped as ``no_licence_events``). *Changes* are the
events of kinds that change a licence (name, address, persons, warehouses, scope, ...; not first issues,
renewals, suspensions, closings nor kinds not known). Several changes on one day are one: a move changes
many things at one visit.

A trade (role ``SHIP``, ``RECEIVE`` or ``PERSON_SALE``) on day d, acted by a registered enterprise (giver;
of a receipt the receiver), *fires* if at least ``changes`` changes of it lie in the ``months`` × 30.4
days up to d (d and the first day included; a day that only may have been d does not count: the clock's
doubt), and the latest of them has not fired: once for each change that makes it as many, or more. A
case is kept apart by enterprise and latest change; its lead is the first trade.

observed: changes in that time, threshold: ``changes`` - 1. Severity 0.25 + 0.05 for each change above
``changes``, at most 0.5: it is a reason to look, no breach.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._rights import RECEIVE, TRADE, row_of, trades_of
from trace_engine.detectors._standing import (
    advance_standing,
    days_at_least,
    new_standing_state,
    standing_rows,
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
from trace_engine.registry.licences import CHANGE_SPAN, Licences

Int64 = npt.NDArray[np.int64]

_FOR_EVER = 100_000  # days


class LicenceChurnParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`LicenceChurn`."""

    changes: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100,
            description="Changes of a licence that are frequent",
            extra_json_schema={"unit": "changes", "zh": "认定频繁变更的次数"},
        ),
    ] = 3
    months: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=120,
            description="Within how many months",
            extra_json_schema={"unit": "months", "zh": "统计变更次数的月数"},
        ),
    ] = 12


class LicenceChurn(KeyedDetector[LicenceChurnParameters]):
    """Trades of enterprises whose licence keeps changing."""

    id: ClassVar[str] = "licence_churn"
    title_zh: ClassVar[str] = "许可频繁变更"
    title_en: ClassVar[str] = "Licence changed again and again"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.LICENCE
    key: ClassVar[str] = "enterprise"
    rows: ClassVar[tuple[str, ...]] = ("G11",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：对频繁变更的药品批发企业重点排查"
    )
    unit: ClassVar[str] = "changes"
    needs: ClassVar[tuple[str, ...]] = ("registry.licence_events", "registry.enterprises")
    false_positives: ClassVar[str] = (
        "A move (all that is changed on one day counts once), routine renewals and first issues (do "
        "not count), enterprises that do not trade (are not told)."
    )
    false_positives_zh: ClassVar[str] = (
        "搬迁（同一天变更的各项只算一次）、例行换证和首次核发（不计）、没有经营活动的企业（不报）。"
    )
    parameters: ClassVar[type[Parameters]] = LicenceChurnParameters
    sentence_zh: ClassVar[str] = (
        "{subject}至{date}在{months}个月内变更许可事项{observed:.0f}次（最近一次{latest_time}），"
        "且仍在经营（首笔为{drug}，追溯码{code}），应重点排查其购销渠道。"
    )
    sentence_en: ClassVar[str] = (
        "By {date} {subject} had changed its licence {observed:.0f} times within {months} months "
        "(last on {latest_time}) and goes on trading (first {drug}, code {code}): look at where it "
        "buys and sells."
    )

    def select(self, data: Slice, parameters: LicenceChurnParameters) -> tuple[Rows, Verdict]:
        """Return the trades of enterprises with frequent changes, one for each, change and day."""
        view, batch = data.registry, data.batch
        if not (view.has("licence_events") and view.has("enterprises")):
            total = len(data.rows_of(*TRADE))
            return _rows(data, np.empty(0, np.int64), *[np.empty(0, np.int64)] * 3), Verdict(
                skipped={"no_licence_events": total} if total else {}
            )
        of = view.licences
        many = np.diff(of.change_offsets) >= parameters.changes
        many[-1] = False  # who is not registered
        rows, judged, strangers = trades_of(data, many)
        receipt = ROLE_OF[batch.kind[rows]] == RECEIVE
        actor = np.where(receipt, batch.target[rows], batch.source[rows])
        row = row_of(data, actor)
        mine = many[row]
        rows, actor, row = rows[mine], actor[mine], row[mine]
        low, _ = days_at_least(data, rows)
        count, latest = _changes(of, row, low, _window(parameters))
        often = count >= parameters.changes
        found = _rows(data, rows[often], actor[often], count[often], latest[often])
        return found, Verdict(
            judged=judged, skipped={"not_registered": strangers} if strangers else {}
        )

    def new_state(self) -> State:
        """Return empty state: which changes were told."""
        return new_standing_state()

    def advance(
        self, rows: Rows, state: State, parameters: LicenceChurnParameters, last_day: int
    ) -> Hits | None:
        """Tell each enterprise once for each change that makes them many."""
        fired = advance_standing(rows, state, _FOR_EVER)
        if fired is None:
            return None
        told, m = fired.rows, len(fired)
        above = told["changes"] - parameters.changes
        return Hits(
            seq=told["seq"],
            time=told["time"],
            observed=told["changes"].astype(np.float64),
            threshold=np.full(m, parameters.changes - 1.0),
            severity=np.minimum(0.25 + 0.05 * above, 0.5).astype(np.float32),
            subject=told["subject_party"],
            counterparty=told["other_party"],
            group=told["cause"].astype(np.uint64) + np.uint64(1),
            extra={
                "months": np.full(m, parameters.months),
                "latest_time": told["since"],
            },
        )


def _window(parameters: LicenceChurnParameters) -> int:
    """Return the length of the time looked back on, in days."""
    return round(parameters.months * 30.4)


def _rows(data: Slice, rows: Int64, actor: Int64, count: Int64, latest: Int64) -> Rows:
    found = standing_rows(
        data, rows, subject=actor.astype(np.int32), cause=latest, since=latest * DAY
    )
    lead = np.searchsorted(data.seq_base + rows, found["seq"])
    found["changes"] = count[lead]
    return found


def _changes(of: Licences, row: Int64, day: Int64, window: int) -> tuple[Int64, Int64]:
    """Return how many changes lie in the ``window`` days up to ``day``, and the latest of them."""
    keys = row * CHANGE_SPAN + day
    last = np.searchsorted(of.change_keys, keys, side="right")
    first = np.searchsorted(of.change_keys, keys - window, side="right")
    latest = of.change_days[np.maximum(last, 1) - 1].astype(np.int64)
    return last - first, latest

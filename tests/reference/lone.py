"""Detectors that need one event and nothing else, from the definitions in their modules."""

from __future__ import annotations

from tests.reference.abuse import foreign_gtin
from tests.reference.events import DAY, MINUTE
from tests.reference.history import NOBODY, History, RawHit, hit
from trace_engine.events.kinds import CODELESS, EventKind


def malformed_code(history: History) -> list[RawHit]:
    return [
        hit("malformed_code", row, 1, subject=row.event.actor, counterparty=NOBODY)
        for row in history
        if row.event.code_problem
        and row.event.kind != EventKind.VERIFICATION
        and row.event.kind not in CODELESS
    ]


def time_disorder(history: History) -> list[RawHit]:
    limit = history.p("time_disorder").max_lag_days * DAY
    skew = history.settings.clock_skew_minutes * MINUTE
    hits = []
    for row in history:
        event = row.event
        if event.record_time is None:
            continue
        end = event.time + (DAY if event.date_only else 0)
        observed = None
        if event.record_time - end > limit:
            observed = (event.record_time - end) / DAY
        elif event.record_time < event.time - skew:
            observed = (event.time - event.record_time) / DAY
        if observed is not None:
            hits.append(
                hit("time_disorder", row, observed, subject=event.actor, counterparty=NOBODY)
            )
    return hits


def unknown_product(history: History) -> list[RawHit]:
    drugs = history.world.drugs
    hits = []
    for row in history if drugs else ():
        event = row.event
        if event.kind == EventKind.VERIFICATION or (event.drug is None and event.code_drug is None):
            continue
        registered = [drug for drug in (event.drug, event.code_drug) if drug in drugs]
        conflict = False
        if event.drug_declared and event.drug != event.code_drug and len(registered) == 2:
            approvals = [str(drugs[drug].get("approval_no") or "") for drug in registered if drug]
            conflict = "" not in approvals and approvals[0] != approvals[1]
        abroad = event.code_problem == 0 and foreign_gtin(event.code_drug or event.drug or "")
        if (not registered and not abroad) or conflict:
            hits.append(hit("unknown_product", row, 1, subject=event.actor, counterparty=NOBODY))
    return hits

"""Drive the compiled custody kernels directly, and read them back as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tests.conformance.machine import registry_of
from tests.conformance.strategies import Case
from tests.reference.encode import batch_of
from tests.reference.events import Event, deduplicate, events_of
from tests.reference.state import Enriched, Waiting
from tests.reference.story import run
from tests.reference.world import Settings, World
from trace_engine.core import signals
from trace_engine.core.movements import Settings as KernelSettings
from trace_engine.core.owners import PARTY
from trace_engine.core.packing import Reference
from trace_engine.core.shards import CodeShards
from trace_engine.events.batch import Vocabulary
from trace_engine.registry.regions import load_regions

SIGNALS = {
    name: bit
    for name, bit in vars(signals).items()
    if isinstance(bit, int) and name.isupper() and not name.startswith("_")
}


def signal_names(bits: int) -> tuple[str, ...]:
    """Return the names of the bits set."""
    return tuple(name for name, bit in SIGNALS.items() if bits & bit)


def events_in(case: Case, voids: bool = True) -> list[Event]:
    """Return the case's accepted events by time."""
    rows = [row for row in case.rows if voids or row["event_type"] != "void"]
    accepted, _, _ = deduplicate(events_of(rows))
    return sorted(accepted, key=lambda e: (e.time, e.key))


def expected(events: Sequence[Event], case: Case) -> tuple[list[Enriched], list[Waiting]]:
    """Return what the plain implementation says."""
    return run(events, World.of(case.enterprises, case.drugs), Settings())


def plain(row: Enriched) -> dict[str, Any]:
    """Return one row of the plain implementation as values to compare."""
    values: dict[str, Any] = {
        "signal": signal_names(row.signal),
        "hops": row.hops,
        "crossings": row.crossings,
        "run": row.run,
        "sales": row.sales,
        "owner_before": row.owner_before,
        "cost": row.cost,
        "previous": row.previous.event_id if row.previous else None,
    }
    if row.has(signals.REPEAT_SALE | signals.AFTER_SALE):
        values |= {"sale_giver": row.sale_giver, "sale_time": row.sale_time}
    if row.has(signals.PLACED):
        values |= {"last": (row.last_time, row.last_place), "place": row.place}
    return values


def compiled(
    events: Sequence[Event], case: Case
) -> tuple[dict[str, dict[str, Any]], list[Waiting]]:
    """Return what the kernels say of ``events`` (by time), by event id, and the late hops."""
    vocabulary = Vocabulary()
    batch = batch_of(events, vocabulary)
    view = registry_of(case.registry).view(vocabulary)
    regions = load_regions()
    reference = Reference(
        province=view.party_province,
        group=view.party_group,
        region=view.party_region,
        single_place=view.party_single_place,
        capacity=view.drug_capacity,
        packs_in_case=view.drug_packs_in_case,
        region_province=regions.province,
        region_is_province=regions.is_province,
    )
    parties = np.zeros(len(view.party_group), PARTY)
    parties["group"], parties["province"] = view.party_group, view.party_province
    plain_settings = Settings()
    settings = KernelSettings(
        dwell_seconds=int(plain_settings.dwell_hours * 3600),
        skew_seconds=plain_settings.clock_skew_minutes * 60,
        shipment_days=plain_settings.unmatched_shipment_days,
        receipt_days=plain_settings.unmatched_receipt_days,
    )

    def run_in_turn(function: Any, items: Iterable[int]) -> None:
        for item in items:
            function(item)

    last_day = max(e.day for e in events)
    got = CodeShards().step(batch, 0, last_day, reference, parties, settings, run_in_turn)
    party = vocabulary.parties.text
    out = {}
    for i, event in enumerate(events):
        row = np.array([i])
        values: dict[str, Any] = {
            "signal": signal_names(int(got.signal[i])),
            "hops": int(got.hops[i]),
            "crossings": int(got.crossings[i]),
            "run": int(got.run[i]),
            "sales": int(got.sales[i]),
            "owner_before": party(int(got.owner_before[i])) or None,
            "cost": None if got.cost[i] < 0 else int(got.cost[i]),
            "previous": None if got.previous[i] < 0 else events[int(got.previous[i])].event_id,
        }
        if got.signal[i] & (signals.REPEAT_SALE | signals.AFTER_SALE):
            values["sale_giver"] = party(int(got.sale_giver(row)[0]))
            values["sale_time"] = int(got.sale_time(row)[0])
        if got.signal[i] & signals.PLACED:
            place = regions.code(int(got.last_place(row)[0]))
            values["last"] = (int(got.last_time(row)[0]), place)
            values["place"] = regions.code(int(got.place(row)[0]))
        out[event.event_id] = values
    waiting = [
        Waiting(events[int(seq)], int(day), shipment, bool(on_record))
        for late, shipment in ((got.overdue_shipments, True), (got.overdue_receipts, False))
        for seq, day, on_record in zip(late.seq, late.deadline, late.owner_on_record, strict=True)
    ]
    return out, waiting


def late_of(waiting: Iterable[Waiting]) -> list[tuple[str, int, bool, bool]]:
    """Return late hops as values to compare."""
    return sorted((w.event.event_id, w.deadline, w.shipment, w.owner_on_record) for w in waiting)

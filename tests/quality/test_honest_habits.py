"""No suspected violation is found where nobody breaks a rule, whatever the habits of the trade."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

import trace_engine
from tests.quality import honest
from tests.quality.honest import Habit, write_honest_market

PACKS = 5_000
HABITS: dict[str, tuple[Habit, ...]] = {
    "none": (),
    "dates on all bills": (honest.all_bills_carry_a_date,),
    "dates on everything": (honest.everything_carries_a_date,),
    "clocks off": (honest.clocks_are_off,),
    "receipts missing": (honest.half_of_the_receipts_are_missing,),
    "shipments missing": (honest.half_of_the_shipments_are_missing,),
    "head offices upload": (honest.headquarters_upload_for_all_stores,),
    "many returns": (honest.many_returns,),
    "voids": (honest.bills_are_voided_and_written_again,),
    "dump begins late": (honest.the_dump_begins_in_the_middle,),
    "bare scans": (honest.nobody_states_prices_regions_or_bills,),
    "returns by dates": (honest.many_returns, honest.everything_carries_a_date),
    "voids by dates": (honest.bills_are_voided_and_written_again, honest.all_bills_carry_a_date),
    "receipts missing, dates, late dump": (
        honest.half_of_the_receipts_are_missing,
        honest.all_bills_carry_a_date,
        honest.the_dump_begins_in_the_middle,
    ),
    "shipments missing, clocks off, head offices": (
        honest.clocks_are_off,
        honest.half_of_the_shipments_are_missing,
        honest.headquarters_upload_for_all_stores,
    ),
}


def suspicions(folder: Path, registry: bool) -> dict[str, int]:
    """Return the number of suspected violations by detector."""
    known = folder / "registry" if registry else None
    result = trace_engine.score(str(folder / "events"), registry=known)
    assert result.counts["events"] > 5_000
    assert result.counts["rejects"] == 0
    suspected = result.findings.filter(
        pc.equal(result.findings.column("family"), "suspected_violation")
    )
    return dict(Counter(suspected.column("detector").to_pylist()))


@pytest.mark.parametrize("habit", HABITS)
def test_nobody_honest_is_suspected(habit: str, tmp_path: Path) -> None:
    write_honest_market(tmp_path, 21, HABITS[habit], PACKS)
    assert suspicions(tmp_path, registry=True) == {}


@pytest.mark.parametrize("habit", ["none", "many returns", "receipts missing", "clocks off"])
def test_nor_where_no_registry_is_known(habit: str, tmp_path: Path) -> None:
    write_honest_market(tmp_path, 22, HABITS[habit], PACKS, one_place_each=True)
    assert suspicions(tmp_path, registry=False) == {}

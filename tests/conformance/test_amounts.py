"""What a finding says is at stake is the money of what it rests on, not of the pack it shows."""

from __future__ import annotations

import pytest

from tests.conformance.casefile import FOLDER, Row, read_cases, world_rows
from tests.conformance.machine import registry_of, run_engine


def amounts(detector: str, case: str, price: float = 10) -> list[float | None]:
    """Return the amounts found where every row of a hand-made case states a price."""
    chosen = next(c for c in read_cases(FOLDER / f"{detector}.toml") if c.name == case)
    rows: list[Row] = [{**row, "unit_price": price} for row in chosen.rows]
    found = run_engine(rows, registry_of(world_rows())).findings.to_pylist()
    return [row["amount"] for row in found if row["detector"] == detector]


@pytest.mark.parametrize(
    ("detector", "case", "amount"),
    [
        # Four packs in one row close the ring.
        ("circular_trade", "three wholesalers sell a drug round within a week", 40),
        # One pack of each of ten shops.
        ("fan_in_collection", "ten shops sell one drug to a wholesaler within a month", 100),
        ("pass_through", "bought and sold on ten minutes later from where the supplier is", 20),
        ("pass_through", "more codes of the same two bills", 30),
        # How an enterprise trades at large has no price.
        ("disjoint_business", "two businesses under one licence, in the same drug", None),
        ("shared_warehouse", "five firms of other cities, sent out by one", None),
        (
            "related_party_ring",
            "three firms with one telephone and one controller trade among themselves",
            None,
        ),
        (
            "clue_concentration",
            "a wholesaler whose few sales are banned ones, day after day",
            None,
        ),
    ],
)
def test_amounts(detector: str, case: str, amount: float | None) -> None:
    assert amounts(detector, case) == [amount]


def test_without_prices_nothing_is_known_to_be_at_stake() -> None:
    case = "ten shops sell one drug to a wholesaler within a month"
    assert amounts("fan_in_collection", case, price=0) == [None]

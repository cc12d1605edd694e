"""Cases that move as such: told again in plain Python over the rows as written."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest

from tests.simulate.conftest import World, read_world
from trace_engine.simulate import cases, simulate

SALES = {"retail_sale", "dispensing", "vaccination"}
MOVES = {"sale_shipment", "purchase_receipt"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a market in which nearly everything that can travels by the case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "AGGREGATED", 0.9)
        patch.setattr(cases, "REPLACED", 0.05)
        folder = tmp_path_factory.mktemp("cases")
        return honest(read_world(folder, simulate(45_000, 4, folder)))


def honest(world: World) -> World:
    """Return a market without the codes of schemes and twins."""
    planted = {code for one in [*world.schemes, *world.benign] for code in one["codes"]}
    return replace(
        world,
        by_id={i: row for i, row in world.by_id.items() if row["code"] not in planted},
        by_code={code: rows for code, rows in world.by_code.items() if code not in planted},
    )


def outer_codes(world: World) -> dict[str, list[dict[str, Any]]]:
    return {c: rows for c, rows in world.by_code.items() if rows[0]["pack_level"] == 2}


def test_a_case_holds_what_was_packed_into_it(packed: World) -> None:
    inside: dict[str, set[str]] = defaultdict(set)
    for row in packed.by_id.values():
        if row["event_type"] == "pack":
            assert row["pack_level"] == 1
            inside[row["parent_code"]].add(row["code"])
            made = packed.by_code[row["code"]][0]
            assert made["event_type"] == "commissioning"
            assert made["event_time"] < row["event_time"]
            assert made["event_time"].date() == row["event_time"].date()
    assert len(inside) > 20
    for case, packs in inside.items():
        assert len(packs) == 24
        for row in packed.by_code.get(case, []):  # a few leave the maker after the window
            assert row["quantity"] == 24
            assert row["pack_level"] == 2


def test_packs_in_a_case_have_no_rows_of_their_own_until_it_is_opened(packed: World) -> None:
    outer = outer_codes(packed)
    assert len(outer) > 20
    opened = 0
    parent = {
        r["code"]: r["parent_code"] for r in packed.by_id.values() if r["event_type"] == "pack"
    }
    for code, case in parent.items():
        own = [r for r in packed.by_code[code] if r["event_type"] in MOVES | SALES]
        lent = [r for r in outer.get(case, []) if r["event_type"] in MOVES]
        unpacked = [r for r in outer.get(case, []) if r["event_type"] == "unpack"]
        opened += bool(unpacked)
        bills = {r["bill_code"] for r in lent}
        assert not bills & {r["bill_code"] for r in own}
        for row in own if unpacked else []:
            assert row["event_time"].date() >= unpacked[0]["event_time"].date()
            assert row["event_time"] > lent[-1]["event_time"] - dt.timedelta(days=1)
    assert opened > 100


def test_a_case_walks_from_hand_to_hand_and_is_opened_once(packed: World) -> None:
    kinds = Counter[str]()
    for rows in outer_codes(packed).values():
        kinds.update(r["event_type"] for r in rows)
        assert [r["event_type"] for r in rows].count("unpack") <= 1
        holder = None
        # On bills of one date the order of rows says nothing.
        for row in sorted(rows, key=lambda r: (r["event_time"], r["event_type"] == "unpack")):
            if row["event_type"] == "sale_shipment":
                assert holder in (None, row["from_id"])
            elif row["event_type"] == "purchase_receipt":
                holder = row["to_id"]
            elif row["event_type"] == "unpack":
                assert holder in (None, row["actor_id"])
    assert set(kinds) == {"sale_shipment", "purchase_receipt", "unpack"}
    # Some cases are received pack by pack, some go on from the distributor to the buyer.
    assert kinds["sale_shipment"] > kinds["purchase_receipt"] > kinds["unpack"]


def test_a_new_code_takes_the_place_of_the_old_one(packed: World) -> None:
    replaced = [r for r in packed.by_id.values() if r["event_type"] == "code_replacement"]
    assert len(replaced) > 10
    for row in replaced:
        old, new = packed.by_code[row["parent_code"]], packed.by_code[row["code"]]
        assert new[0] is row
        assert all(r["event_time"].date() <= row["event_time"].date() for r in old)
        assert old[-1]["event_type"] == "purchase_receipt"
        assert old[-1]["to_id"] == row["actor_id"]
        assert all(r["from_id"] == row["actor_id"] for r in new[1:2])
        assert old[0]["batch_no"] == row["batch_no"]

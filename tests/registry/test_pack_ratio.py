"""How many packs a case holds, as registries write it."""

from __future__ import annotations

import pytest

from trace_engine.registry.pack_ratio import MOST_PACKS, packs_in_case


@pytest.mark.parametrize(
    ("spec", "packs"),
    [
        ("24片/盒×400盒/箱", 400),
        ("24片/盒*400盒/件", 400),
        ("24片/盒, 400 盒／箱", 400),
        ("7片×2板/盒×10盒/中盒×20中盒/箱", 200),
        ("20袋/盒×10盒/中包×12中包/箱", 120),
        ("1支/盒×600盒/箱", 600),
        ("10ml×6支/盒×100盒/箱", 100),
        ("20g×60袋/箱", 60),
        ("100ml/瓶×40瓶/箱×20箱/托", 40),
        ("1:400", 400),
        ("24片/盒，1：400", 400),
        ("1:5:10", 50),
        ("24片/盒", -1),
        ("7片×2板×10盒/中盒", -1),
        ("2400片/箱", -1),
        ("24片/盒×0盒/箱", -1),
        (f"24片/盒×{MOST_PACKS + 1}盒/箱", -1),
        ("0.5g:1ml", -1),
        ("1:2:3:4:5", -1),
        ("", -1),
        (None, -1),
    ],
)
def test_packs_in_case(spec: str | None, packs: int) -> None:
    assert packs_in_case(spec) == packs

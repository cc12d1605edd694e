"""What is in what, and when; and a large case that nobody opens until it is sold."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.casefile import event_rows, world_rows
from tests.conformance.machine import registry_of, run_engine
from tests.reference.events import moment
from trace_engine.core.contents import ancestors, borrowed_events, contents, leaf_count
from trace_engine.engine import Engine

PACK, OTHER, CARTON, CASE = (f"810000100000000{n:05d}" for n in (1, 2, 5001, 9001))

TREE = f"""
a1 | 2025-03-01 08:00 | pack | MAKER > | code={PACK} parent_code={CARTON}
a2 | 2025-03-01 08:00 | pack | MAKER > | code={OTHER} parent_code={CARTON}
a3 | 2025-03-01 09:00 | pack | MAKER > | code={CARTON} parent_code={CASE}
b1 | 2025-03-02 09:00 | sale_shipment | MAKER > W1 | code={CASE} bill_code=B1
b2 | 2025-03-03 09:00 | purchase_receipt | MAKER > W1 | code={CASE} bill_code=B2
c1 | 2025-03-04 09:00 | unpack | W1 > | code={CARTON} parent_code={CASE}
d1 | 2025-03-05 09:00 | sale_shipment | W1 > P1 | code={CARTON} bill_code=B3
d2 | 2025-03-06 09:00 | purchase_receipt | W1 > P1 | code={CARTON} bill_code=B4
e1 | 2025-03-07 10:00 | retail_sale | P1 > | code={PACK} bill_code=R1
"""


def engine_of(lines: str) -> Engine:
    rows = [row for line in lines.strip().splitlines() for row in event_rows(line)]
    return run_engine(rows, registry_of(world_rows()))


@pytest.fixture(scope="module")
def tree() -> Engine:
    return engine_of(TREE)


def key(text: str) -> int:
    return int(text[1:])


def texts(engine: Engine, keys: object) -> list[str]:
    return sorted(engine.vocabulary.code_text(int(code)) for code in np.asarray(keys))


@pytest.mark.parametrize(
    ("code", "time", "inside", "leaves"),
    [
        (CASE, "2025-03-02", [PACK, OTHER, CARTON], 2),
        (CARTON, "2025-03-02", [PACK, OTHER], 2),
        (CASE, "2025-03-05", [], 0),
        (CARTON, "2025-03-08", [OTHER], 1),
        (CASE, "2025-02-01", [], 0),
        (PACK, "2025-03-02", [], 0),
        ("81000010000000077777", "2025-03-02", [], 0),
    ],
)
def test_contents(tree: Engine, code: str, time: str, inside: list[str], leaves: int) -> None:
    assert texts(tree, contents(tree, key(code), moment(time))[0]) == sorted(inside)
    assert leaf_count(tree, key(code), moment(time)) == leaves


def test_ancestors(tree: Engine) -> None:
    def above(time: str) -> list[str]:
        found = ancestors(tree, key(PACK), moment(time))
        return [tree.vocabulary.code_text(int(code)) for code in found]

    assert above("2025-03-02") == [CARTON, CASE]
    assert above("2025-03-05") == [CARTON]
    assert above("2025-03-08") == []


def test_borrowed_events(tree: Engine) -> None:
    codes = np.array([key(PACK), key(CASE), key(OTHER)], np.uint64)
    offsets, seqs = borrowed_events(tree, codes)
    ids = tree.log.text("event_id", seqs)
    assert ids[offsets[0] : offsets[1]] == ["b1", "b2", "d1", "d2"]
    assert ids[offsets[1] : offsets[2]] == []
    assert ids[offsets[2] : offsets[3]] == ["b1", "b2", "d1", "d2"]


def test_an_honest_tree_raises_nothing(tree: Engine) -> None:
    assert tree.findings.num_rows == 0


def test_the_path_tells_what_the_case_went_through() -> None:
    again = TREE + f"f1 | 2025-03-09 10:00 | retail_sale | P2 > | code={PACK} bill_code=R2"
    found = engine_of(again).findings.to_pylist()
    sale = next(finding for finding in found if finding["detector"] == "duplicate_sale")
    assert sale["event_ids"] == ["a1", "b1", "b2", "d1", "d2", "e1", "f1"]
    assert "随箱 2025-03-02" in sale["explanation_zh"]
    assert "in its case 2025-03-02" in sale["explanation_en"]
    assert "inside" in sale["evidence"]


def test_a_case_of_many_packs_moves_in_few_rows() -> None:
    packs = 1500
    lines = f"""
a*{packs} | 2025-03-01 | pack | MAKER > | code=81000010000000000000 parent_code=81000010000000090001
b1 | 2025-03-02 | sale_shipment | MAKER > W1 | code=81000010000000090001 bill_code=B1
b2 | 2025-03-03 | purchase_receipt | MAKER > W1 | code=81000010000000090001 bill_code=B2
b3 | 2025-03-04 | sale_shipment | W1 > P1 | code=81000010000000090001 bill_code=B3
b4 | 2025-03-05 | purchase_receipt | W1 > P1 | code=81000010000000090001 bill_code=B4
c*{packs} | 2025-03-06 | retail_sale | P1 > | code=81000010000000000000 bill_code=R1
"""
    engine = engine_of(lines)
    assert engine.counts["events"] == 2 * packs + 4
    assert leaf_count(engine, 1000010000000090001, moment("2025-03-04")) == packs
    assert leaf_count(engine, 1000010000000090001, moment("2025-03-08")) == 0
    assert engine.findings.num_rows == 0

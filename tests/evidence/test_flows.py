"""Edges a finding rests on: one for each giver and receiver, both halves of a move counted once."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference.events import table_of
from trace_engine import Engine
from trace_engine.detectors.base import Hits
from trace_engine.evidence.flows import flow_text, flows_of
from trace_engine.evidence.grouping import group_hits


def rows() -> list[dict[str, Any]]:
    out = []
    for i, (day, kind, giver, receiver) in enumerate(
        [
            ("2026-03-01 09:00", "sale_shipment", "A", "B"),
            ("2026-03-02 09:00", "purchase_receipt", "A", "B"),
            ("2026-03-05 09:00", "sale_shipment", "B", "C"),
            ("2026-03-07 09:00", "retail_sale", "C", ""),
        ]
    ):
        for pack in range(3):
            actor = receiver if kind == "purchase_receipt" else giver
            out.append(
                {
                    "event_id": f"e{i}-{pack}", "event_time": day, "event_type": kind,
                    "code": f"8100001000000000000{pack}", "actor_id": actor, "from_id": giver,
                    "to_id": receiver or None, "bill_code": f"B{i}",
                }
            )  # fmt: skip
    return out


def flows(related: bool) -> list[dict[str, Any]]:
    engine = Engine()
    engine.process(table_of(rows()))
    engine.finish()
    last = np.arange(len(engine.log) - 3, len(engine.log))
    hits = Hits(
        seq=last,
        observed=np.ones(3),
        threshold=np.ones(3),
        severity=np.ones(3, np.float32),
        group=np.ones(3, np.uint64),
        related=np.arange(9).reshape(3, 3) if related else None,
    )
    group = group_hits(hits, engine.log, engine.view, engine.vocabulary)
    found = flows_of([group], engine.log, engine.vocabulary, engine.view)
    assert len(found) == 1
    return found[0]


def test_a_shipment_and_its_receipt_are_one_movement() -> None:
    edges = [(e["source"], e["target"], e["packs"], e["first"]) for e in flows(True)]
    assert edges == [
        ("A", "B", 3, "2026-03-01"),
        ("B", "C", 3, "2026-03-05"),
        ("C", "", 3, "2026-03-07"),
    ]


def test_one_seller_and_its_customers_are_no_graph() -> None:
    assert flows(False) == []


def test_edges_in_words() -> None:
    edges = flows(True)
    assert flow_text(edges, "zh").startswith("A → B（2026-03-01）；B → C（2026-03-05）；")
    assert flow_text(edges * 4, "en").endswith("; and 6 more")

"""The part of the supply graph around one enterprise, as nodes and edges."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from trace_engine.events.batch import Vocabulary
from trace_engine.registry import RegistryView


def neighbourhood(
    edges: pa.Table, centre: str, view: RegistryView, vocabulary: Vocabulary, most: int
) -> dict[str, Any]:
    """Sum edges (schema ``evidence.graphs.SUPPLY_EDGES``) by giver, receiver, drug and type.

    Returns ``nodes``, ``edges`` (the largest ``most`` by packs, then by name) and ``left_out``,
    the number of edges beyond them.
    """
    keys = ["source_id", "target_id", "drug_id", "type"]
    sums = edges.group_by(keys).aggregate(
        [("codes", "sum"), ("packs", "sum"), ("value", "sum"), ("first_time", "min"),
         ("last_time", "max")]
    )  # fmt: skip
    total = sums.num_rows
    order = [("packs_sum", "descending"), *((key, "ascending") for key in keys)]
    shown = sums.sort_by(order).slice(0, most).to_pylist()
    names = sorted({centre, *(row["source_id"] for row in shown), *(r["target_id"] for r in shown)})
    return {
        "enterprise_id": centre,
        "nodes": [_node(name, view, vocabulary) for name in names if name],
        "edges": [
            {
                **{key: row[key] or None for key in keys},
                "drug_name": _drug(row["drug_id"], view, vocabulary),
                "codes": row["codes_sum"],
                "packs": row["packs_sum"],
                "value": row["value_sum"],
                "first_time": row["first_time_min"].isoformat(),
                "last_time": row["last_time_max"].isoformat(),
            }
            for row in shown
        ],
        "left_out": total - len(shown),
    }


def _node(name: str, view: RegistryView, vocabulary: Vocabulary) -> dict[str, Any]:
    party = vocabulary.parties.find(name)
    return {
        "enterprise_id": name,
        "name": view.party_name(party) or None,
        "region": view.party_region_code(party) or None,
    }


def _drug(drug: str | None, view: RegistryView, vocabulary: Vocabulary) -> str | None:
    number = -1 if not drug else vocabulary.drugs.find(drug)
    return view.drug_name(number) or None if number >= 0 else None

"""supply_graph.graphml: the supply graph for Gephi, yEd and networkx."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MOST_EDGES = 20_000  # strongest edges drawn; tools that read GraphML choke on more


def strongest(edges: pa.Table, limit: int = MOST_EDGES) -> pa.Table:
    """Return the ``limit`` edges with most codes; ties in order of giver, receiver and drug."""
    order = pc.sort_indices(
        edges,
        sort_keys=[
            ("codes", "descending"),
            ("source_id", "ascending"),
            ("target_id", "ascending"),
            ("drug_id", "ascending"),
        ],
    )
    return edges.take(order[:limit])


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what GraphML can hold: no nulls, times as text, no control characters."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        kept[name] = value.isoformat() if isinstance(value, datetime) else value
        if isinstance(kept[name], str):
            kept[name] = xml_text(kept[name])
    return kept


def xml_text(text: str) -> str:
    """Return ``text`` without the characters that XML 1.0 cannot hold."""
    return "".join(c for c in text if c in "\t\n\r" or (ord(c) >= 32 and ord(c) not in _FORBIDDEN))


_FORBIDDEN = frozenset({*range(0xD800, 0xE000), 0xFFFE, 0xFFFF})


def write(edges: pa.Table, sellers: pa.Table, path: Path) -> int:
    """Write the strongest edges and their enterprises; return how many edges were left out.

    ``edges`` follows GRAPH_EDGES; an edge for each giver, receiver and drug. Nodes carry name,
    type, region, score and tier from the ranking. The number left out stands in the file too, as
    the graph attribute ``edges_left_out``.
    """
    import networkx as nx

    kept = strongest(edges)
    left_out = int(edges.num_rows - kept.num_rows)
    graph = nx.MultiDiGraph(edges_left_out=left_out)
    columns = ["enterprise_id", "name", "type", "region", "score", "tier"]
    ends = pa.concat_arrays(
        [kept.column(c).combine_chunks().cast(pa.string()) for c in ("source_id", "target_id")]
    ).unique()
    known = sellers.select(columns)
    known = known.filter(pc.is_in(known.column("enterprise_id"), value_set=ends))
    facts = {row.pop("enterprise_id"): row for row in known.to_pylist()}
    for node in ends.drop_null().sort().to_pylist():
        graph.add_node(xml_text(node), **_attributes(facts.get(node, {})))
    for row in kept.to_pylist():
        source, target = row.pop("source_id"), row.pop("target_id")
        if source is not None and target is not None:
            key = f"{row['drug_id']}"
            graph.add_edge(xml_text(source), xml_text(target), xml_text(key), **_attributes(row))
    nx.write_graphml_xml(graph, path, named_key_ids=True)
    return left_out

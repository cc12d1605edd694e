"""supply_graph.graphml: the supply graph for Gephi, yEd and networkx."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

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


# Attributes by the element they belong to: name -> GraphML type.
_KEYS: dict[str, dict[str, str]] = {
    "graph": {"edges_left_out": "long"},
    "node": {
        "name": "string",
        "type": "string",
        "region": "string",
        "score": "double",
        "tier": "string",
    },
    "edge": {
        "drug_id": "string",
        "codes": "long",
        "packs": "long",
        "value": "double",
        "first_time": "string",
        "last_time": "string",
    },
}


def write(edges: pa.Table, sellers: pa.Table, path: Path) -> int:
    """Write the strongest edges and their enterprises; return how many edges were left out.

    ``edges`` follows GRAPH_EDGES; an edge for each giver, receiver and drug. Nodes carry name,
    type, region, score and tier from the ranking. The number left out stands in the file too, as
    the graph attribute ``edges_left_out``. Written as a stream: loading a graph library for it
    would take a quarter of the time of a small run.
    """
    kept = strongest(edges)
    left_out = int(edges.num_rows - kept.num_rows)
    ends = pa.concat_arrays(
        [kept.column(c).combine_chunks().cast(pa.string()) for c in ("source_id", "target_id")]
    ).unique()
    known = sellers.select(["enterprise_id", *_KEYS["node"]])
    known = known.filter(pc.is_in(known.column("enterprise_id"), value_set=ends))
    facts = {row.pop("enterprise_id"): row for row in known.to_pylist()}
    with path.open("wb") as file:
        xml = XMLGenerator(file, "utf-8", short_empty_elements=True)
        xml.startDocument()
        _start(xml, "graphml", xmlns="http://graphml.graphdrawing.org/xmlns")
        for owner, keys in _KEYS.items():
            for name, kind in keys.items():
                key = {"id": name, "for": owner, "attr.name": name, "attr.type": kind}
                _start(xml, "key", **key)
                xml.endElement("key")
        _start(xml, "graph", edgedefault="directed")
        _data(xml, "graph", {"edges_left_out": left_out})
        for node in ends.drop_null().sort().to_pylist():
            _start(xml, "node", id=xml_text(node))
            _data(xml, "node", facts.get(node, {}))
            xml.endElement("node")
        for row in kept.to_pylist():
            source, target = row.pop("source_id"), row.pop("target_id")
            if source is not None and target is not None:
                drug = xml_text(f"{row['drug_id']}")
                _start(xml, "edge", source=xml_text(source), target=xml_text(target), id=drug)
                _data(xml, "edge", row)
                xml.endElement("edge")
        for name in ("graph", "graphml"):
            xml.endElement(name)
        xml.endDocument()
    return left_out


def _start(xml: XMLGenerator, name: str, **attributes: str) -> None:
    xml.startElement(name, AttributesImpl(attributes))


def _data(xml: XMLGenerator, owner: str, values: Mapping[str, Any]) -> None:
    """Write the attributes of a graph, node or edge that have a value."""
    for name, value in _attributes(values).items():
        if name in _KEYS[owner]:
            _start(xml, "data", key=name)
            xml.characters(str(value))
            xml.endElement("data")

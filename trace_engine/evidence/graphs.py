"""The supply graph as a table and as a networkx graph, whole or a part of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.core.records import Records
from trace_engine.events.batch import DAY, Interner, Vocabulary
from trace_engine.evidence.findings import SHANGHAI_OFFSET
from trace_engine.graph.multigraph import FIRST_UNOWNED, TYPE_NAMES, EdgeType
from trace_engine.graph.selection import Selection, near, without_echo

if TYPE_CHECKING:
    import networkx as nx

# One row an edge. ``day`` is the first of the month where ``by_month``.
SUPPLY_EDGES = pa.schema(
    [
        ("source_id", pa.string()),
        ("target_id", pa.string()),
        ("drug_id", pa.string()),
        ("batch_no", pa.string()),
        ("type", pa.string()),
        ("day", pa.date32()),
        ("by_month", pa.bool_()),
        ("codes", pa.int64()),
        ("packs", pa.int64()),
        ("value", pa.float64()),
        ("first_time", pa.timestamp("us", tz="Asia/Shanghai")),
        ("last_time", pa.timestamp("us", tz="Asia/Shanghai")),
    ]
)
OWNED = frozenset(TYPE_NAMES[:FIRST_UNOWNED])
"""Types that change the owner: what ``supply_graph.parquet`` holds."""

_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class SupplyGraph:
    """Edges (records ``graph.multigraph.EDGE``) and the words behind their numbers."""

    edges: Records
    vocabulary: Vocabulary

    def select(
        self,
        drug: str | Iterable[str] | None = None,
        enterprise: str | Iterable[str] | None = None,
        depth: int = 1,
        since: dt.date | None = None,
        until: dt.date | None = None,
        types: Iterable[str] | None = None,
    ) -> Records:
        """Return a part of the edges; see :meth:`graph`.

        Raises ``ValueError`` for a type there is none of.
        """
        numbers = None if types is None else frozenset(_type(name) for name in types)
        if numbers is not None and EdgeType.INTERNAL in numbers:
            numbers |= {int(EdgeType.INTERNAL_RECEIPT)}
        chosen = Selection(
            drugs=None if drug is None else _numbers(self.vocabulary.drugs, drug),
            types=numbers,
            begin=None if since is None else (since - _EPOCH).days * DAY,
            end=None if until is None else ((until - _EPOCH).days + 1) * DAY - 1,
        )
        edges = without_echo(chosen.of(self.edges))
        if enterprise is not None:
            start = _numbers(self.vocabulary.parties, enterprise)
            # An edge lies within depth if one of its ends is nearer than that.
            inside = near(edges, start, depth - 1, len(self.vocabulary.parties))
            edges = edges[inside[edges["source"]] | inside[edges["target"]]]
        return edges

    def table(self, **filters: Any) -> pa.Table:
        """Return edges (schema ``SUPPLY_EDGES``) by giver, receiver, drug, day, type and batch.

        Filters as for :meth:`graph`. Edges of several bills on one day are one row each.
        """
        edges = self.select(**filters)
        words = self.vocabulary
        table = pa.table(
            [
                _text(words.parties, edges["source"]),
                _text(words.parties, edges["target"]),
                _text(words.drugs, edges["drug"]),
                _text(words.batches, edges["batch"]),
                pa.array(np.array(TYPE_NAMES, object)[edges["type"]], pa.string()),
                pa.array(np.ascontiguousarray(edges["day"])).cast(pa.date32()),
                pa.array(edges["folded"] == 1),
                pa.array(np.ascontiguousarray(edges["codes"])),
                pa.array(np.ascontiguousarray(edges["packs"])),
                pa.array(edges["value"] / 100),
                _moments(edges["first"]),
                _moments(edges["last"]),
            ],
            schema=SUPPLY_EDGES,
        )
        by = ("source_id", "target_id", "drug_id", "day", "type", "batch_no", "first_time", "codes")
        return table.sort_by([(name, "ascending") for name in by])

    def graph(
        self,
        drug: str | Iterable[str] | None = None,
        enterprise: str | Iterable[str] | None = None,
        depth: int = 1,
        since: dt.date | None = None,
        until: dt.date | None = None,
        types: Iterable[str] | None = None,
        *,
        detail: bool = False,
    ) -> nx.MultiDiGraph[str]:
        """Return a networkx graph of the edges.

        Parameters
        ----------
        drug
            Only of this drug, or these.
        enterprise, depth
            Only edges at most ``depth`` steps from this enterprise, or these, in any direction.
        since, until
            Only edges with a part in the period, both days included. An edge is taken whole.
        types
            Only these types (``graph.multigraph.TYPE_NAMES``). By default every change of owner;
            with ``detail`` every type.
        detail
            An edge for each bill and day (or month, where that is all still known), with
            ``drug_id``, ``batch_no``, ``type`` and ``day``. Otherwise one edge for each giver,
            receiver and drug, keyed by the drug, as in ``supply_graph.parquet``.

        Edges carry ``codes``, ``packs``, ``value`` (CNY), ``first_time`` and ``last_time``.
        """
        import networkx as nx

        if types is None and not detail:
            types = OWNED
        table = self.table(
            drug=drug, enterprise=enterprise, depth=depth, since=since, until=until, types=types
        )
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        if detail:
            for row in table.to_pylist():
                row |= {n: row[n].isoformat() for n in ("day", "first_time", "last_time")}
                graph.add_edge(row.pop("source_id"), row.pop("target_id"), **row)
            return graph
        sums = table.group_by(["source_id", "target_id", "drug_id"], use_threads=False).aggregate(
            [
                ("codes", "sum"), ("packs", "sum"), ("value", "sum"), ("first_time", "min"),
                ("last_time", "max"),
            ]
        )  # fmt: skip
        for row in sums.to_pylist():
            named = {name.rpartition("_")[0] or name: value for name, value in row.items()}
            source, target, drug_id = row["source_id"], row["target_id"], row["drug_id"]
            values = {n: named[n] for n in ("codes", "packs", "value", "first_time", "last_time")}
            graph.add_edge(source, target, key=drug_id, drug_id=drug_id, **values)
        return graph


def _type(name: str) -> int:
    if name not in TYPE_NAMES:
        raise ValueError(f"no type {name!r} of edges, expected some of {', '.join(TYPE_NAMES)}")
    return TYPE_NAMES.index(name)


def _numbers(words: Interner, names: str | Iterable[str]) -> npt.NDArray[np.int32]:
    listed = [names] if isinstance(names, str) else list(names)
    found = [words.find(name) for name in listed]
    return np.array([number for number in found if number >= 0], np.int32)


def _text(words: Interner, numbers: npt.NDArray[np.int32]) -> pa.Array:
    used, place = np.unique(numbers, return_inverse=True)
    texts = pa.array([words.text(int(i)) for i in used], pa.string())
    return texts.take(pa.array(place.reshape(-1)))


def _moments(local: npt.NDArray[np.int64]) -> pa.Array:
    utc = pa.array(local - SHANGHAI_OFFSET).cast(pa.timestamp("us"))
    return utc.cast(pa.timestamp("us", tz="Asia/Shanghai"))

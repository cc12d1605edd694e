"""Parts of the supply graph: edges asked for, told once, and who lies near whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.records import Records
from trace_engine.events.batch import DAY
from trace_engine.graph.multigraph import EdgeType

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


class Selection(NamedTuple):
    """Which edges are asked for; None is any. ``begin`` and ``end`` (µs) are both included."""

    drugs: npt.NDArray[np.int32] | None = None
    types: frozenset[int] | None = None
    begin: int | None = None
    end: int | None = None

    def of(self, edges: Records) -> Records:
        """Return the edges selected. One that lies partly in the period is in it."""
        keep = np.ones(len(edges), np.bool_)
        if self.drugs is not None:
            keep &= np.isin(edges["drug"], self.drugs)
        if self.types is not None:
            keep &= np.isin(edges["type"], sorted(self.types))
        if self.begin is not None:
            keep &= latest_moment(edges) >= self.begin
        if self.end is not None:
            keep &= edges["first"] <= self.end
        return edges[keep]


def latest_moment(edges: Records) -> Int64:
    """Return the latest time each edge may have happened: of a day without a time, its end."""
    last: Int64 = edges["last"]
    return np.where(last % DAY == 0, last + DAY - 1, last)


def without_echo(edges: Records) -> Records:
    """Return the edges with transfers inside a group told once.

    Of the shipments and the receipts of a giver, receiver, drug and batch the side with more codes
    stands for both, as type ``INTERNAL``; shipments where they are equal.
    """
    inner = (edges["type"] == EdgeType.INTERNAL) | (edges["type"] == EdgeType.INTERNAL_RECEIPT)
    if not inner.any():
        return edges
    some = edges[inner]
    columns = np.column_stack([some[n] for n in ("source", "target", "drug", "batch")])
    _, group = np.unique(columns, axis=0, return_inverse=True)
    group = group.reshape(-1)
    echo = some["type"] == EdgeType.INTERNAL_RECEIPT
    balance = np.bincount(group, np.where(echo, some["codes"], -some["codes"]))
    told = some[echo == (balance > 0)[group]].copy()
    told["type"] = EdgeType.INTERNAL
    return np.concatenate([edges[~inner], told])


def near(edges: Records, parties: Int32, depth: int, vertices: int) -> npt.NDArray[np.bool_]:
    """Return which parties lie at most ``depth`` edges away, in either direction, ``(vertices,)``."""
    reached = np.zeros(vertices, np.bool_)
    reached[parties] = True
    for _ in range(depth):
        touched = reached[edges["source"]] | reached[edges["target"]]
        more = reached.copy()
        more[edges["source"][touched]] = True
        more[edges["target"][touched]] = True
        if (more == reached).all():
            break
        reached = more
    return reached

"""Cycles that goods or money can have gone round: edge after edge strictly later, in one window.

Definition
----------
A *cycle* of length k >= 2 is a sequence of k edges, each beginning where the one before ended and
the last ending where the first began, through k different vertices, with strictly increasing times
and at most ``window`` between first and last. Parallel edges are different edges, so one ring of
vertices may give many cycles. Loops are none.

How it is found
---------------
Every edge ``u -> v`` is taken as the last of its cycles. What remains is a way from v to u before
it, and no earlier than the window.

* Up to length 5 (:mod:`trace_engine.graph._short`) the two halves meet: ways of two edges from v
  are kept by where they end, ways of one and two edges into u are walked backwards and looked up.
* Beyond (:mod:`trace_engine.graph._long`) v is followed forwards through the first half of the
  window and u backwards through the second. Where no vertex is met by both there is no cycle, and
  few edges get further. For those the latest time at which each vertex can still be left for u
  is worked out, and only ways that keep to it are walked.

Both run twice: once to count, then over the edges that close a cycle to write the cycles down, so
the answer takes exactly the memory it needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_engine.graph._long import long_cycles
from trace_engine.graph._short import short_cycles
from trace_engine.graph.adjacency import TemporalGraph, temporal_graph

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

SHORT = 5  # lengths up to this are found by meeting halves
NO_LIMIT = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Cycles:
    """Cycles by their edges.

    ``counts[k]``: how many have length k, shape ``(longest found + 1,)``. ``edges``: numbers of
    the edges in the order given, cycle after cycle, each in order of time; cycle i is
    ``edges[offsets[i]:offsets[i + 1]]``. Cycles are in the order of their last edges. Both are
    empty where only counts were asked for. ``truncated``: a limit was reached, so there are more.
    """

    counts: Int64
    edges: Int64
    offsets: Int64
    truncated: bool

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """Return the number of edges of each cycle, shape ``(len(self),)``."""
        return np.diff(self.offsets)

    def range_of(self, amount: npt.ArrayLike) -> tuple[Float64, Float64]:
        """Return the least and the largest ``amount`` (by edge) of each cycle's edges."""
        values = np.asarray(amount, np.float64)[self.edges]
        if len(self) == 0:
            return np.empty(0), np.empty(0)
        starts = self.offsets[:-1]
        return np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def temporal_cycles(
    source: npt.ArrayLike,
    target: npt.ArrayLike,
    time: npt.ArrayLike,
    window: int,
    *,
    longest: int | None = SHORT,
    amount: npt.ArrayLike | None = None,
    least_ratio: float = 0.0,
    most: int | None = None,
    most_steps: int | None = None,
    closed_from: int | None = None,
    listed: bool = True,
) -> Cycles:
    """Return the cycles of a temporal multigraph (see the module).

    ``source``, ``target``, ``time``, ``amount``: shape ``(m,)``; vertices are small numbers from 0
    on, times and ``window`` integers of any one unit. ``longest``: largest length, None for any.
    ``least_ratio``: only cycles whose least amount is at least this share of their largest.
    ``most``: no more cycles than this. ``most_steps``: no more edges walked than about this, where
    ``longest`` is over 5 (their number can grow exponentially). ``closed_from``: only cycles whose
    last edge is not before this time. ``listed=False``: count only.

    Raises ``ValueError`` for columns of different lengths, negative vertices, a window below 0 or
    ``longest`` below 2.
    """
    if window < 0:
        raise ValueError("a window is not negative")
    if longest is not None and longest < 2:
        raise ValueError("a cycle has two edges at least")
    graph = temporal_graph(source, target, time, trim=True)
    amounts = np.empty(0)
    if amount is not None and least_ratio > 0:
        given = np.asarray(amount, np.float64)
        if len(given) != np.size(source):
            raise ValueError("amount and source differ in length")
        amounts = given[graph.number]
    earliest = graph.earliest_rank(int(window))
    limit = NO_LIMIT if most is None else int(most)
    steps = NO_LIMIT if most_steps is None else int(most_steps)
    depth = max(2, min(graph.vertices if longest is None else longest, graph.vertices))
    counts = np.zeros(depth + 1, np.int64)
    first = 0
    if closed_from is not None:
        first = int(np.searchsorted(graph.moments[graph.rank], closed_from))
    closing = np.arange(first, len(graph), dtype=np.int64)
    seeds = np.zeros(len(graph), np.bool_)
    nothing = np.empty(0, np.int64)
    found, complete = _search(
        graph, earliest, closing, depth, amounts, least_ratio, limit,
        min(limit, NO_LIMIT - 1) + 1, steps, counts, seeds, nothing, nothing,
    )  # fmt: skip
    counts = counts[: 1 + int(np.flatnonzero(counts).max(initial=0))]
    if not listed:
        return Cycles(counts, nothing, np.zeros(1, np.int64), not complete)
    edges = np.empty(int(counts @ np.arange(len(counts))), np.int64)
    offsets = np.zeros(found + 1, np.int64)
    _search(
        graph, earliest, np.flatnonzero(seeds), depth, amounts, least_ratio, found, found,
        NO_LIMIT, np.zeros(depth + 1, np.int64), seeds, edges, offsets,
    )  # fmt: skip
    return Cycles(counts, graph.number[edges], offsets, not complete)


def _search(
    graph: TemporalGraph,
    earliest: npt.NDArray[np.int32],
    closing: Int64,
    depth: int,
    amounts: Float64,
    least_ratio: float,
    limit: int,
    stop: int,
    steps: int,
    counts: Int64,
    seeds: npt.NDArray[np.bool_],
    edges: Int64,
    offsets: Int64,
) -> tuple[int, bool]:
    """Run the search that fits the length; return how many were found and whether these are all.

    ``offsets`` of length 0 counts only. ``seeds`` marks the edges that closed a cycle. The search
    ends with number ``stop``: that after ``limit`` tells that there are more, ``limit`` itself
    that all to be written are.
    """
    if depth <= SHORT:
        return short_cycles(
            graph.source, graph.target, graph.rank, graph.earlier, graph.outgoing, graph.out_start,
            graph.incoming, graph.in_start, earliest, closing, depth, amounts, least_ratio, limit,
            stop, counts, seeds, edges, offsets,
        )  # fmt: skip
    return long_cycles(
        graph.source, graph.target, graph.rank, graph.earlier, graph.outgoing, graph.out_start,
        graph.incoming, graph.in_start, earliest, closing, depth, amounts, least_ratio, limit,
        stop, steps, counts, seeds, edges, offsets,
    )  # fmt: skip

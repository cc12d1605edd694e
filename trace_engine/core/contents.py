"""What was in a code, what a code was in, and the events it went through, at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from trace_engine.core.packages import LEVELS
from trace_engine.core.past import Past, last_events, spread
from trace_engine.core.stories import Stories

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.core.shards import CodeShards

Int64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

_NOTHING = np.empty(0, np.uint64)


class Holder(Protocol):
    """What an engine has that these questions need."""

    shards: CodeShards
    log: EventLog
    voided: set[int]


def _past(engine: Holder, keys: Keys, inner: bool) -> tuple[Past, Stories] | None:
    """Return the past of codes (with all that ever was in them), and their stories as known now."""
    table = engine.shards.packages
    nodes = table.nodes_of(keys).astype(np.int64)
    nodes = np.unique(nodes[nodes >= 0])
    if not inner:
        nodes = nodes[(table.arrays.up[nodes] >= 0)]
    if len(nodes) == 0:
        return None
    roots = table.descendants(nodes) if inner else nodes
    past = Past(table, engine.log, roots, lambda some: last_events(engine.shards, some)[1])
    past.know(engine.voided, {}, [])
    return past, past.tell(np.ones(len(past.keys), np.bool_), 0)


def contents(engine: Holder, code: int, time: int) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """Return the codes that were in ``code`` at ``time`` (µs), and which of them held nothing.

    At most four levels of packing down, nearest first. ``code`` is a key, as in ``EventBatch.code``.
    """
    found = _past(engine, np.array([code], np.uint64), inner=True)
    if found is None:
        return _NOTHING, np.empty(0, np.bool_)
    past, story = found
    child, link = spread(story.link_begin, story.link_end)
    holds = (story.link_since[link] <= time) & (story.link_until[link] >= time)
    holds &= story.link_parent[link] >= 0
    child, parent = child[holds], story.link_parent[link[holds]]
    seen = np.zeros(len(past.keys), np.bool_)
    frontier = np.flatnonzero(past.keys == np.uint64(code))
    seen[frontier] = True
    inside = []
    for _ in range(LEVELS):
        frontier = np.unique(child[np.isin(parent, frontier)])
        frontier = frontier[~seen[frontier]]
        seen[frontier] = True
        inside.append(frontier)
    codes = np.concatenate(inside)
    return past.keys[codes], ~np.isin(codes, parent)


def leaf_count(engine: Holder, code: int, time: int) -> int:
    """Return how many smallest packs were in ``code`` at ``time``: 0 for what holds nothing."""
    return int(np.count_nonzero(contents(engine, code, time)[1]))


def ancestors(engine: Holder, code: int, time: int) -> Keys:
    """Return the codes that ``code`` was in at ``time`` (µs), the nearest first."""
    found = _past(engine, np.array([code], np.uint64), inner=False)
    if found is None:
        return _NOTHING
    past, story = found
    above: list[int] = []
    here = int(np.flatnonzero(past.keys == np.uint64(code))[0])
    for _ in range(LEVELS):
        links = np.arange(story.link_begin[here], story.link_end[here])
        open_then = links[(story.link_since[links] <= time) & (story.link_until[links] >= time)]
        if len(open_then) == 0 or story.link_parent[open_then[-1]] < 0:
            break
        here = int(story.link_parent[open_then[-1]])
        if here in above:
            break
        above.append(here)
    return past.keys[np.array(above, np.int64)]


def borrowed_events(engine: Holder, codes: Keys) -> tuple[Int64, Int64]:
    """Return (offsets (m+1,), log numbers): the events that each of ``codes`` borrowed, by time.

    What it went through under a code it replaced is among them.
    """
    offsets = np.zeros(len(codes) + 1, np.int64)
    if len(engine.shards.packages) == 0:
        return offsets, np.empty(0, np.int64)
    found = _past(engine, codes, inner=False)
    if found is None:
        return offsets, np.empty(0, np.int64)
    past, story = found
    number = {int(key): k for k, key in enumerate(past.keys.tolist())}
    runs = []
    for at, code in enumerate(codes.tolist()):
        k = number.get(code)
        if k is not None:
            rows = story.row[story.begin[k] : story.end[k]]
            rows = rows[past.code[rows] != k]
            if k in past.replaces_others:
                rows = np.array(sorted({*rows.tolist(), *past.inherited(k, story, 0)}), np.int64)
            runs.append(past.seq[rows])
            offsets[at + 1] = len(rows)
    return np.cumsum(offsets), np.concatenate([*runs, np.empty(0, np.int64)])

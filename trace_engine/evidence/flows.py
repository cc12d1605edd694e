"""The small graph a finding rests on: who gave what to whom, for findings that are of no one pack.

A finding on one pack shows its path. A ring of companies, a collector of medicine or a shared
warehouse shows edges instead: one for each giver and receiver of the events it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.detectors.base import ROLE_OF
from trace_engine.events.batch import DAY, Vocabulary
from trace_engine.events.kinds import Role
from trace_engine.evidence.paths import place_of, time_text
from trace_engine.registry.regions import load_regions

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.evidence.grouping import Grouped
    from trace_engine.registry import RegistryView

MOST_EDGES = 24  # edges shown of one finding: those that carry most
_EVENTS_LOOKED_AT = 5_000  # of one finding
_IN_WORDS = 6  # edges named in a sentence

_SENT = [
    int(r)
    for r in (
        Role.SHIP, Role.RETURN_SHIP, Role.TRANSFER_SHIP, Role.RECALL_SHIP, Role.PERSON_SALE,
    )
]  # fmt: skip
_RECEIVED = [
    int(r) for r in (Role.RECEIVE, Role.RETURN_RECEIVE, Role.TRANSFER_RECEIVE, Role.RECALL_RECEIVE)
]

Int64 = npt.NDArray[np.int64]
FlowEdge = dict[str, Any]


def flows_of(
    groups: Sequence[Grouped], log: EventLog, vocabulary: Vocabulary, view: RegistryView
) -> list[list[FlowEdge]]:
    """Return the edges each finding rests on, by first time; empty where no two enterprises meet.

    ``groups`` are hits of findings (one list of edges for each run of them). An edge has the ids,
    names and regions of both sides (an empty ``target`` is a person), ``packs`` and ``events``,
    ``first`` and ``last`` day. A shipment and its receipt are one movement: an edge counts the
    packs of whichever side reported more.
    """
    numbers, owner, total = _events(groups)
    out: list[list[FlowEdge]] = [[] for _ in range(total)]
    if len(numbers) == 0:
        return out
    names = (
        "source", "target", "source_region", "target_region", "quantity", "time", "kind",
        "event_key",
    )  # fmt: skip
    at = log.columns(names, numbers)
    role = ROLE_OF[at["kind"]]
    received = np.isin(role, _RECEIVED)
    fits = (received | np.isin(role, _SENT)) & (at["source"] >= 0) & (at["source"] != at["target"])
    fits &= (at["target"] >= 0) | (role == int(Role.PERSON_SALE))
    at = {name: column[fits] for name, column in at.items()}
    owner, received = owner[fits], received[fits]
    if len(owner) == 0:
        return out
    # Regions are those the earliest event states; equal times have an order of their own.
    keys = (at["event_key"], at["time"], received, at["target"], at["source"], owner)
    order = np.lexsort(keys)
    at = {name: column[order] for name, column in at.items()}
    owner, received = owner[order], received[order]
    new = (np.diff(owner) != 0) | (np.diff(at["source"]) != 0) | (np.diff(at["target"]) != 0)
    starts = np.flatnonzero(np.concatenate([[True], new]))
    packs = np.maximum(
        np.add.reduceat(np.where(received, at["quantity"], 0).astype(np.int64), starts),
        np.add.reduceat(np.where(received, 0, at["quantity"]).astype(np.int64), starts),
    )
    events = np.diff(np.append(starts, len(owner)))
    first = np.minimum.reduceat(at["time"], starts)
    last = np.maximum.reduceat(at["time"], starts)
    regions = load_regions()
    for i, start in enumerate(starts.tolist()):
        source, target = int(at["source"][start]), int(at["target"][start])
        out[int(owner[start])].append(
            {
                "source": vocabulary.parties.text(source),
                "target": vocabulary.parties.text(target),
                "source_name": view.party_name(source),
                "target_name": view.party_name(target) if target >= 0 else "",
                "source_region": place_of(regions, at["source_region"][start], source, view),
                "target_region": place_of(regions, at["target_region"][start], target, view),
                "packs": int(packs[i]),
                "events": int(events[i]),
                "first": time_text(int(first[i]) // DAY * DAY, True),
                "last": time_text(int(last[i]) // DAY * DAY, True),
            }
        )
    return [_shown(edges) for edges in out]


def _events(groups: Sequence[Grouped]) -> tuple[Int64, Int64, int]:
    """Return the numbers of all events of all findings (each once), whose they are, how many."""
    numbers: list[Int64] = []
    owners: list[Int64] = []
    total = 0
    for group in groups:
        counts = np.diff(group.starts)
        owner = total + np.repeat(np.arange(len(counts)), counts)
        numbers.append(group.seq)
        owners.append(owner)
        if group.related is not None:
            more = group.related.reshape(len(group.seq), -1)
            numbers.append(more.reshape(-1))
            owners.append(np.repeat(owner, more.shape[1]))
        total += len(counts)
    if not numbers:
        return np.empty(0, np.int64), np.empty(0, np.int64), 0
    pairs = np.column_stack([np.concatenate(owners), np.concatenate(numbers)])
    pairs = np.unique(pairs[pairs[:, 1] >= 0], axis=0)
    if len(pairs) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), total
    begin = np.flatnonzero(np.append(True, np.diff(pairs[:, 0]) != 0))
    place = np.arange(len(pairs)) - np.repeat(begin, np.diff(np.append(begin, len(pairs))))
    pairs = pairs[place < _EVENTS_LOOKED_AT]
    return pairs[:, 1], pairs[:, 0], total


def _shown(edges: list[FlowEdge]) -> list[FlowEdge]:
    if len({side for e in edges for side in (e["source"], e["target"]) if side}) < 2:
        return []
    edges.sort(key=lambda e: (-e["packs"], e["first"], e["source"], e["target"]))
    kept = edges[:MOST_EDGES]
    kept.sort(key=lambda e: (e["first"], e["last"], e["source"], e["target"]))
    return kept


def flow_text(edges: Sequence[FlowEdge], lang: str) -> str:
    """Return edges as one line: who gave to whom, and from when.

    Without numbers of packs: the events of a finding may be a sample of what it rests on.
    """
    english = lang == "en"
    parts = []
    for edge in edges[:_IN_WORDS]:
        giver = edge["source_name"] or edge["source"]
        receiver = edge["target_name"] or edge["target"] or ("persons" if english else "个人")
        told = f"({edge['first']})" if english else f"（{edge['first']}）"
        parts.append(f"{giver} → {receiver}{' ' if english else ''}{told}")
    rest = len(edges) - len(parts)
    text = ("; " if english else "；").join(parts)
    if rest > 0:
        text += f"; and {rest} more" if english else f"；另有{rest}条"
    return text

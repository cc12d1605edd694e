"""Merge two engines that each saw a part of the codes.

State of codes is disjoint and is taken over line by line; sums are added; detectors that keep state
across codes judge the rows of both engines anew, in one order. Numbers that each engine gave on
arrival (parties, drugs, codes, events) are translated first. The result does not depend on which
engine takes over which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.core.codetable import SHARDS, Table, find, find_or_add
from trace_engine.core.eventlog import MemoryChunk
from trace_engine.core.kernel import kernel
from trace_engine.core.movements import WAITING
from trace_engine.core.packagetable import PackageTable
from trace_engine.core.past import last_events, shard_of
from trace_engine.core.records import Records
from trace_engine.core.returning import recall_all
from trace_engine.core.shards import CodeShards
from trace_engine.detectors.base import ClueDetector, Hits, Rows, in_order
from trace_engine.events.batch import (
    INTERNERS,
    NATIONAL_LIMIT,
    NO_CODE,
    STRING_COLUMNS,
    EventBatch,
    Vocabulary,
)

if TYPE_CHECKING:
    from trace_engine.engine import Engine

Ids = npt.NDArray[np.int32]

# Which interner a column's numbers belong to, wherever a column of that name stands.
_INTERNER_OF = {
    "actor": "parties",
    "source": "parties",
    "target": "parties",
    "subject": "parties",
    "counterparty": "parties",
    "drug": "drugs",
    "code_drug": "drugs",
    "batch_no": "batches",
    "platform": "platforms",
    "shop": "shops",
    "device": "devices",
    "operator": "operators",
    "pharmacist": "pharmacists",
    "doctor": "doctors",
}


@dataclass
class Translation:
    """Numbers of another engine in ours."""

    ids: dict[str, Ids]  # interner -> our id by theirs, and -1 at the end for "none"
    codes: npt.NDArray[np.uint64]  # our key by their index among other codes
    seq_offset: int

    @classmethod
    def between(cls, theirs: Vocabulary, ours: Vocabulary, seq_offset: int) -> Translation:
        """Give every word of ``theirs`` a number in ``ours``."""
        ids = {}
        for name in INTERNERS:
            if name == "codes":
                continue
            mine = getattr(ours, name).ids(getattr(theirs, name).values)
            ids[name] = np.append(mine, np.int32(-1)).astype(np.int32)
        codes = ours.codes.ids(theirs.codes.values).astype(np.uint64) + np.uint64(NATIONAL_LIMIT)
        return cls(ids, codes, seq_offset)

    def column(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Translate a column by its name; columns without numbers of ours come back as they are."""
        if name in ("code", "parent"):
            return self.keys(values)
        if name in ("seq", "previous"):
            return np.where(values >= 0, values + self.seq_offset, values)
        interner = "parties" if name.endswith("_party") else _INTERNER_OF.get(name)
        if interner is None:
            return values
        translated: npt.NDArray[Any] = self.ids[interner][values].astype(values.dtype)
        return translated

    def keys(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Translate keys of codes; those of national codes are the same everywhere."""
        out = keys.copy()
        other = (keys >= NATIONAL_LIMIT) & (keys != NO_CODE)
        out[other] = self.codes[(keys[other] - np.uint64(NATIONAL_LIMIT)).astype(np.int64)]
        return out

    def batch(self, batch: EventBatch, file_offset: int) -> EventBatch:
        """Translate a batch that was not judged yet."""
        rows = batch.take(np.arange(len(batch)))
        for name in ("code", *_INTERNER_OF):
            if hasattr(rows, name):
                setattr(rows, name, self.column(name, getattr(rows, name)))
        rows.optional = {name: self.column(name, c) for name, c in rows.optional.items()}
        if rows.origin is not None:
            rows.origin = rows.origin + np.int64(file_offset << 40)
        return rows

    def hits(self, hits: Hits) -> Hits:
        """Translate hits."""

        def optional(name: str) -> Any:
            column = getattr(hits, name)
            return None if column is None else self.column(name, np.asarray(column))

        related = hits.related
        if related is not None:
            related = np.where(related >= 0, related + self.seq_offset, related)
        return Hits(
            seq=np.asarray(hits.seq) + self.seq_offset,
            observed=hits.observed,
            threshold=hits.threshold,
            severity=hits.severity,
            subject=optional("subject"),
            counterparty=optional("counterparty"),
            time=hits.time,
            region=hits.region,
            amount=hits.amount,
            group=hits.group,
            history_since=hits.history_since,
            related=related,
            extra={name: self.column(name, np.asarray(c)) for name, c in hits.extra.items()},
        )


def merge_engines(ours: Engine, theirs: Engine) -> None:
    """Take the state of ``theirs`` into ``ours``; ``theirs`` must not be used afterwards.

    Raises
    ------
    ValueError
        If the engines differ in policy or registry, do not keep hits, or saw one code both.
    """
    _check(ours, theirs)
    clocks = [c for c in (ours.clock_day, theirs.clock_day) if c is not None]
    for engine in (ours, theirs):
        if clocks:
            engine.advance(max(clocks) + 1)
        recall_all(engine.shards)
    t = Translation.between(theirs.vocabulary, ours.vocabulary, len(ours.log))
    _check_packages(ours.shards, theirs.shards, t)
    _check_packages(theirs.shards, ours.shards, t, ours_are_theirs=True)
    _merge_packages(ours.shards.packages, theirs.shards.packages, t)
    _merge_shards(ours.shards, theirs.shards, t)
    ours.view.refresh()
    for number, chunk in enumerate(theirs.log.chunks):
        columns = {
            name: t.column(name, values) for name, values in theirs.log.every_column(number).items()
        }
        every = np.arange(len(chunk))
        strings = {
            n: pa.array(c, pa.string()) for n, c in chunk.texts(STRING_COLUMNS, every).items()
        }
        ours.log.add_chunk(MemoryChunk(columns, None, pa.table(strings)))
    ours.voided |= {s + t.seq_offset for s in theirs.voided}
    ours.identity.merge(theirs.identity)
    ours.exposure.merge(theirs.exposure.totals, t.ids["parties"][:-1])
    ours.multigraph.merge(
        theirs.multigraph.records(), t.ids["parties"], t.ids["drugs"], t.ids["batches"]
    )
    ours.coverage.merge(theirs.coverage.judged, theirs.coverage.skipped)
    for name, count in theirs.counts.items():
        ours.counts[name] += count
    ours.rejects += theirs.rejects
    for piece in theirs.buffer.pieces:
        ours.buffer.add(t.batch(piece, len(ours.files)))
    ours.files += theirs.files
    begins = [b for b in (ours.data_begin, theirs.data_begin) if b is not None]
    ours.data_begin = min(begins) if begins else None
    keyed = ours.keyed_detectors()
    ours.kept_hits = [
        *((n, h) for n, h in ours.kept_hits if n not in keyed),
        *((n, t.hits(h)) for n, h in theirs.kept_hits if n not in keyed),
    ]
    if clocks:
        ours.kept_hits += ours.catch_up(max(clocks))
    for name in sorted(keyed, key=lambda each: keyed[each].after_others):
        rows = [
            *ours.kept_rows[name],
            *({c: t.column(c, v) for c, v in r.items()} for r in theirs.kept_rows[name]),
        ]
        _judge_again(ours, name, rows)


def _check(ours: Engine, theirs: Engine) -> None:
    if ours is theirs:
        raise ValueError("an engine cannot be merged with itself")
    if not (ours.keep_hits and theirs.keep_hits):
        raise ValueError("both engines must be made with keep_hits=True to be merged")
    if ours.policy.version != theirs.policy.version:
        raise ValueError(
            f"engines of two policies cannot be merged: {ours.policy.version}, "
            f"{theirs.policy.version}"
        )
    if ours.registry.content_hash != theirs.registry.content_hash:
        raise ValueError("engines of two registries cannot be merged")


@kernel
def _first_known(table: Table, keys: npt.NDArray[np.uint64]) -> int:
    """Index of the first key that has a line, or -1."""
    for i in range(keys.shape[0]):
        if find(table, keys[i]) >= 0:
            return i
    return -1


@kernel
def _add_lines(table: Table, lines: Records, rows: npt.NDArray[np.int64]) -> None:
    """Add ``lines`` (new codes) and write their rows to ``rows``."""
    for i in range(lines.shape[0]):
        row = find_or_add(table, lines[i].key)
        table.lines[row] = lines[i]
        rows[i] = row


def _check_packages(
    ours: CodeShards, theirs: CodeShards, t: Translation, *, ours_are_theirs: bool = False
) -> None:
    """Refuse codes of theirs that are in, or hold, codes of which ours knows something."""
    a = theirs.packages.arrays
    used = int(a.used[0])
    paired = (a.up[:used] >= 0) | (a.down[:used] >= 0) | (a.replaced[:used] >= 0)
    keys = a.key[:used][paired]
    if ours_are_theirs:  # translated keys are of the engine that takes over
        lines = [np.array(s.table.lines["key"][: len(s.table)]) for s in ours.shards]
        seen = t.keys(np.concatenate(lines))
        known = np.isin(keys, seen)
    else:
        keys = t.keys(keys)
        nodes = ours.packages.nodes_of(keys)
        b = ours.packages.arrays
        known = (nodes >= 0) & (
            (b.up[nodes] >= 0) | (b.down[nodes] >= 0) | (b.replaced[nodes] >= 0)
        )
        known |= last_events(ours, keys)[0] >= 0
    if known.any():
        raise ValueError(
            f"both engines know the code with key {int(keys[known][0])}: engines to be merged must "
            "each see all that was ever in a code, and all that it was in"
        )


def _merge_packages(ours: PackageTable, theirs: PackageTable, t: Translation) -> None:
    a = theirs.arrays
    nodes, pairs = (int(count) for count in a.used)
    keys = t.keys(a.key[:nodes].copy())
    ours.add(
        keys[a.child[:pairs]],
        keys[a.parent[:pairs]],
        a.seq[:pairs] + t.seq_offset,
        a.day[:pairs].astype(np.int64),
        a.says[:pairs],
        a.void_day[:pairs].copy(),
    )
    moving = ours.nodes_of(keys[a.moves[:nodes] != 0]).astype(np.int64)
    ours.mark_moving(moving[moving >= 0])


def _merge_shards(ours: CodeShards, theirs: CodeShards, t: Translation) -> None:
    parties = t.ids["parties"]
    for shard in theirs.shards:
        used, nodes_used = int(shard.table.used[0]), int(shard.table.used[1])
        lines = shard.table.lines[:used].copy()
        lines["key"] = t.keys(lines["key"])
        for name in ("owner", "previous", "holder"):
            lines[name] = parties[lines[name]]
        shallow = lines["tail"] >= -1
        lines["tail"][shallow] = parties[lines["tail"][shallow]]
        known = lines["last_seq"] != 0xFFFFFFFF
        lines["last_seq"][known] += np.uint32(t.seq_offset)
        nodes = shard.table.nodes[:nodes_used].copy()
        nodes[:, 0] = parties[nodes[:, 0]]
        last = nodes[:, 1] >= -1
        nodes[last, 1] = parties[nodes[last, 1]]
        of_shard = shard_of(lines["key"])
        shard.firsts.reserve(used)
        carried = shard.firsts.records[:used].copy()
        carried["batch_no"] = t.ids["batches"][carried["batch_no"]]
        drug, found = (carried["drug"] >> 3) - 1, carried["drug"] & 7
        carried["drug"] = ((t.ids["drugs"][drug] + 1) << 3) | found
        new_row = np.zeros(used, np.int64)
        for k in range(SHARDS):
            mine = np.flatnonzero(of_shard == k)
            if len(mine):
                new_row[mine] = _take_lines(ours, k, lines[mine], nodes)
                firsts = ours.shards[k].firsts
                firsts.reserve(len(ours.shards[k].table))
                firsts.records[new_row[mine]] = carried[mine]
        for name in ("shipments", "receipts"):
            waiting = getattr(shard, name).waiting().copy()
            where = of_shard[waiting["row"]]
            waiting["row"] = new_row[waiting["row"]]
            waiting["seq"] += np.uint32(t.seq_offset)
            for k in range(SHARDS):
                entries: npt.NDArray[Any] = waiting[where == k]
                if len(entries):
                    queue = getattr(ours.shards[k], name)
                    queue.replace(np.concatenate([queue.waiting(), entries]).astype(WAITING))


def _take_lines(
    ours: CodeShards, k: int, lines: npt.NDArray[Any], nodes: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Add lines to shard ``k`` of ours, with the nodes their stacks may point to."""
    table = ours.shards[k].table
    twice = _first_known(table.view(), np.ascontiguousarray(lines["key"]))
    if twice >= 0:
        raise ValueError(
            f"both engines saw the code with key {int(lines['key'][twice])}: engines to be merged "
            "must each see all events of a code"
        )
    table.reserve(len(lines) + len(nodes))
    offset = int(table.used[1])
    shifted = nodes.copy()
    deep = shifted[:, 1] < -1
    shifted[deep, 1] -= offset
    table.nodes[offset : offset + len(nodes)] = shifted
    table.used[1] = offset + len(nodes)
    deep_lines = lines["tail"] < -1
    lines["tail"][deep_lines] -= offset
    rows = np.empty(len(lines), np.int64)
    _add_lines(table.view(), lines, rows)
    return rows


def _judge_again(engine: Engine, name: str, parts: list[Rows]) -> None:
    """Let a keyed detector judge the rows of both engines from the beginning."""
    detector = engine.keyed_detectors()[name]
    engine.states[name] = detector.new_state()
    parts = [p for p in parts if len(p["time"])]
    engine.kept_rows[name] = [in_order(parts)] if parts else []
    if isinstance(detector, ClueDetector):
        clues = engine.clues(detector, engine.kept_hits, engine.log.columns)
        parts += [clues] if len(clues["time"]) else []
    if parts:
        engine.kept_hits += engine.judge_rows(name, in_order(parts))

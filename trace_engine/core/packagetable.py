"""The growing table of codes that were ever in other codes.

Codes that never stood beside a ``parent_code`` are not in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core import packages
from trace_engine.core.packages import NEVER, PACKED, Int32, Int64, Keys, Packages

_NODE_COLUMNS = ("key", "up", "down", "replaced", "moves", "place")
_PAIR_COLUMNS = (
    "child", "parent", "next_up", "next_down", "seq", "day", "void_day", "says",
)  # fmt: skip
_DTYPES: dict[str, Any] = {
    "key": np.uint64, "moves": np.uint8, "says": np.uint8, "seq": np.int64,
}  # fmt: skip


class PackageTable:
    """Owner of :class:`~trace_engine.core.packages.Packages`: makes room, asks kernels."""

    def __init__(self) -> None:
        names = (*_NODE_COLUMNS, *_PAIR_COLUMNS)
        columns = {name: np.empty(64, _DTYPES.get(name, np.int32)) for name in names}
        self.arrays = Packages(
            **columns, index=np.zeros(256, np.uint64), used=np.zeros(2, np.int64)
        )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return int(self.arrays.used[1])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(sum(column.nbytes for column in self.arrays))

    def _reserve(self, nodes: int, pairs: int) -> None:
        a = self.arrays
        grown: dict[str, npt.NDArray[Any]] = {}
        for names, used, more in (
            (_NODE_COLUMNS, int(a.used[0]), nodes),
            (_PAIR_COLUMNS, int(a.used[1]), pairs),
        ):
            size = len(getattr(a, names[0]))
            if used + more <= size:
                continue
            for name in names:
                old = getattr(a, name)
                grown[name] = np.empty(max(2 * size, used + more), old.dtype)
                grown[name][:used] = old[:used]
        slots = len(a.index)
        while int(a.used[0]) + nodes > 0.6 * slots:
            slots *= 2
        if slots > len(a.index):
            grown["index"] = np.zeros(slots, np.uint64)
        if grown:
            self.arrays = a._replace(**grown)
            if "index" in grown:
                packages.reindex(self.arrays)

    def add(
        self,
        children: Keys,
        parents: Keys,
        seqs: Int64,
        days: Int64,
        says: npt.NDArray[np.uint8],
        void_days: Int32 | None = None,
    ) -> Int64:
        """Add pairs and return the nodes that are new."""
        before = int(self.arrays.used[0])
        self._reserve(2 * len(children), len(children))
        if void_days is None:
            void_days = np.full(len(children), NEVER, np.int32)
        packages.add_pairs(
            self.arrays,
            np.ascontiguousarray(children),
            np.ascontiguousarray(parents),
            np.ascontiguousarray(seqs),
            days.astype(np.int32),
            void_days,
            np.ascontiguousarray(says),
        )
        return np.arange(before, int(self.arrays.used[0]))

    def add_nodes(self, keys: Keys) -> None:
        """Make sure that every code has a node."""
        self._reserve(len(keys), 0)
        packages.add_nodes(self.arrays, np.ascontiguousarray(keys))

    def nodes_of(self, codes: Keys) -> Int32:
        """Return the node of each code, -1 for none."""
        nodes = np.empty(len(codes), np.int32)
        packages.nodes_of(self.arrays, np.ascontiguousarray(codes), nodes)
        return nodes

    def note_moves(self, nodes: Int32, acts: npt.NDArray[np.bool_]) -> None:
        """Mark nodes of rows that ``acts`` (move what is in the code)."""
        packages.note_moves(self.arrays, nodes, acts)

    def mark_moving(self, nodes: Int64) -> None:
        """Mark nodes whose codes have earlier events."""
        self.arrays.moves[nodes] = 1

    def borrows(self, nodes: Int64) -> npt.NDArray[np.bool_]:
        """Return whether each node may have something to borrow, or was replaced."""
        out = np.empty(len(nodes), np.bool_)
        packages.borrows(self.arrays, nodes, out)
        return out

    def closure(self, roots: Int64) -> Int64:
        """Return the nodes that stories of ``roots`` need, numbered in ``place``: :meth:`release`."""
        return packages.closure(self.arrays, roots)

    def release(self, nodes: Int64) -> None:
        """Give back what :meth:`closure` numbered."""
        self.arrays.place[nodes] = -1

    def descendants(self, roots: Int64) -> Int64:
        """Return the nodes that ever were in ``roots``, and those."""
        return packages.descendants(self.arrays, roots)

    def several_parents(self, nodes: Int64) -> npt.NDArray[np.bool_]:
        """Return whether each code was ever said to be in more than one other."""
        out = np.empty(len(nodes), np.bool_)
        packages.several_parents(self.arrays, nodes, out)
        return out

    def packed_by(self, nodes: Int64, days: Int64) -> npt.NDArray[np.bool_]:
        """Return whether something was packed into each node by a day, as known that day."""
        out = np.empty(len(nodes), np.bool_)
        packages.packed_by(self.arrays, nodes, days, out)
        return out

    def packed_count(self, code: np.uint64, day: int) -> int:
        """Return how many codes were ever packed into ``code`` by ``day``, as known that day."""
        node = int(self.nodes_of(np.array([code], np.uint64))[0])
        a = self.arrays
        pair = int(a.down[node]) if node >= 0 else -1
        children = set()
        while pair >= 0:
            if a.says[pair] == PACKED and a.day[pair] <= day < a.void_day[pair]:
                children.add(int(a.child[pair]))
            pair = int(a.next_down[pair])
        return len(children)

    def note_voids(self, codes: Keys, seqs: Int64, days: Int64) -> None:
        """Remember on which day events (by code and log number) were made void."""
        nodes = self.nodes_of(codes).astype(np.int64)
        known = nodes >= 0
        packages.note_voids(self.arrays, nodes[known], seqs[known], days[known].astype(np.int32))

    def entries(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that :meth:`restore` needs, by name."""
        nodes, pairs = (int(count) for count in self.arrays.used)
        kept = {name: getattr(self.arrays, name)[:nodes] for name in _NODE_COLUMNS}
        return kept | {name: getattr(self.arrays, name)[:pairs] for name in _PAIR_COLUMNS}

    def restore(self, entries: dict[str, npt.NDArray[Any]]) -> None:
        """Hold exactly what :meth:`entries` returned."""
        nodes, pairs = len(entries["key"]), len(entries["child"])
        self._reserve(nodes, pairs)
        for name, column in entries.items():
            getattr(self.arrays, name)[: len(column)] = column
        self.arrays.used[:] = (nodes, pairs)
        self.arrays.index[:] = 0
        packages.reindex(self.arrays)

"""Questions about one state of an engine: a code, a batch, an enterprise."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trace_engine.events.codes import parse_code
from trace_engine.tracing.batch import BatchTrace, trace_batch
from trace_engine.tracing.code import CodeTrace, trace_code
from trace_engine.tracing.enterprise import EnterpriseTrace, trace_enterprise
from trace_engine.tracing.errors import TraceError
from trace_engine.tracing.index import TraceIndex
from trace_engine.tracing.packs import tell_packs

if TYPE_CHECKING:
    from trace_engine.engine import Engine
    from trace_engine.events.batch import Interner

SHOWN_NAMES = 5
NEAR_AMONG = 200_000  # names compared to find near ones


class Tracer:
    """Answers questions about an engine's state. Its index is built when first needed.

    Events that the engine has not judged yet are not part of it. Times are µs of the Shanghai wall
    clock; ``begin`` and ``end`` are both included.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._index: TraceIndex | None = None

    @property
    def index(self) -> TraceIndex:
        """The index of packs and batches, renewed when the engine has judged more events."""
        if self._index is None or self._index.events_known != len(self.engine.log):
            index = TraceIndex(self.engine)
            index.settle(tell_packs(self.engine, index, index.differing, None, whole=True))
            self._index = index
        return self._index

    def code(self, text: str) -> CodeTrace:
        """Return the path and standing of a trace code, however it is written."""
        identity = parse_code(text).identity or text
        key = self.engine.vocabulary.code_key(identity)
        pack = -1 if key is None else int(self.index.last_of(np.array([key], np.uint64))[0])
        if key is None or pack < 0:
            raise TraceError(f"没有追溯码 {text} 的事件", f"no event of trace code {text} is known")
        return trace_code(self, identity, key, pack)

    def batch(
        self,
        batch_no: str,
        drug: str | None = None,
        begin: int | None = None,
        end: int | None = None,
    ) -> BatchTrace:
        """Return where a batch went, who holds it, and where it came from.

        ``drug`` may be left out where only one drug has packs of that batch number. Raises
        :class:`TraceError` for an unknown batch or drug, or where there are several drugs.
        """
        vocabulary = self.engine.vocabulary
        batch = vocabulary.batches.find(batch_no)
        drugs = [] if batch < 0 else self.index.drugs_of(batch)
        if not drugs:
            raise self._unknown("批号", "batch", batch_no, vocabulary.batches)
        names = ", ".join(
            f"{vocabulary.drugs.text(d)} {self.engine.view.drug_name(d)} ({n})"
            for d, n in drugs[:SHOWN_NAMES]
        ) + ("" if len(drugs) <= SHOWN_NAMES else ", ...")
        if drug is None:
            if len(drugs) > 1:
                raise TraceError(
                    f"批号 {batch_no} 对应 {len(drugs)} 个药品，请用 --drug 指定：{names}",
                    f"batch {batch_no} is of {len(drugs)} drugs, choose one with --drug: {names}",
                )
            number = drugs[0][0]
        else:
            number = vocabulary.drugs.find(drug)
            if number not in [d for d, _ in drugs]:
                raise TraceError(
                    f"药品 {drug} 没有批号 {batch_no}；有该批号的药品：{names}",
                    f"drug {drug} has no batch {batch_no}; drugs that have: {names}",
                )
        return trace_batch(self, number, batch, begin, end)

    def enterprise(
        self,
        enterprise_id: str,
        drug: str | None = None,
        begin: int | None = None,
        end: int | None = None,
    ) -> EnterpriseTrace:
        """Return an enterprise's partners, and whom its goods can have reached or come from."""
        vocabulary = self.engine.vocabulary
        party = vocabulary.parties.find(enterprise_id)
        if party < 0:
            raise self._unknown("企业", "enterprise", enterprise_id, vocabulary.parties)
        number = None
        if drug is not None:
            number = vocabulary.drugs.find(drug)
            if number < 0:
                raise self._unknown("药品", "drug", drug, vocabulary.drugs)
        return trace_enterprise(self.engine, party, number, begin, end)

    @staticmethod
    def _unknown(zh: str, en: str, value: str, names: Interner) -> TraceError:
        near = get_close_matches(value, names.values[:NEAR_AMONG], SHOWN_NAMES, 0.6)
        zh_hint = f"；相近的有：{'、'.join(near)}" if near else ""
        en_hint = f"; near names: {', '.join(near)}" if near else ""
        return TraceError(f"没有{zh} {value}{zh_hint}", f"no {en} {value}{en_hint}")

    # ---- what traces share ---------------------------------------------------------------------

    def groups(self) -> npt.NDArray[np.int32]:
        """Return the group of each party, -1 none."""
        self.engine.view.refresh()
        return np.ascontiguousarray(self.engine.view.party_group, np.int32)

    def contents(self, key: int) -> npt.NDArray[np.uint64]:
        """Return the codes that ever were said to be in the code with ``key``, ascending."""
        table = self.engine.shards.packages
        node = table.nodes_of(np.array([key], np.uint64)).astype(np.int64)
        if node[0] < 0:
            return np.empty(0, np.uint64)
        inside = table.descendants(node)
        return np.sort(table.arrays.key[inside[inside != node[0]]])

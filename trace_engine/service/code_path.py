"""Everything the service knows of one trace code: judged events, events still held, its standing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.eventlog import EventLog
from trace_engine.engine import Engine
from trace_engine.events.batch import DAY, EventBatch
from trace_engine.evidence.paths import path_events, path_text
from trace_engine.service.turns import Turns
from trace_engine.tracing.live import find_code, is_packed, trace_live

MOST_GROUPS = 8
TRIES = 3

Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint64]


class _Group:
    """Batches whose codes are sorted together."""

    def __init__(self, pieces: list[EventBatch]) -> None:
        self.pieces = pieces  # held, so that no other batch can get the id of one
        self.starts = np.cumsum([0, *map(len, pieces)])
        codes: Codes = np.concatenate([piece.code for piece in pieces])
        order = np.argsort(codes, kind="stable")
        self._codes = codes[order]
        self._order = order.astype(np.uint32) if len(order) < 1 << 32 else order

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, code: np.uint64) -> list[tuple[EventBatch, Rows]]:
        """Return where a code stands, by batch, in order of rows."""
        low = int(np.searchsorted(self._codes, code, side="left"))
        high = int(np.searchsorted(self._codes, code, side="right"))
        if low == high:
            return []
        places = np.sort(self._order[low:high]).astype(np.int64)
        which = np.searchsorted(self.starts, places, side="right") - 1
        return [
            (self.pieces[number], places[which == number] - self.starts[number])
            for number in np.unique(which).tolist()
        ]


class HeldIndex:
    """Finds the events of a code among those held back until their day closes.

    Batches that were there at the last :meth:`refresh` are in a few sorted groups; those that came
    since are looked through. Readers never sort and never wait: the groups are replaced whole.
    """

    def __init__(self) -> None:
        self._known: tuple[list[_Group], frozenset[int]] = [], frozenset()

    def refresh(self, pieces: list[EventBatch]) -> None:
        """Sort what came, and forget what is no longer held. For one thread."""
        held = {id(piece) for piece in pieces}

        def still_held(group: _Group) -> list[EventBatch]:
            return [piece for piece in group.pieces if id(piece) in held]

        # A group of which less than half is held is given up, and sorted anew with what came.
        groups = [
            group
            for group in self._known[0]
            if (left := still_held(group)) and 2 * sum(map(len, left)) >= len(group)
        ]
        known = {id(piece) for group in groups for piece in group.pieces}
        if new := [piece for piece in pieces if id(piece) not in known]:
            groups.append(_Group(new))
        if len(groups) > MOST_GROUPS:
            groups.sort(key=len, reverse=True)
            small = groups[MOST_GROUPS // 2 :]
            groups = groups[: MOST_GROUPS // 2]
            groups.append(_Group([piece for group in small for piece in still_held(group)]))
        self._known = groups, frozenset(id(p) for group in groups for p in group.pieces)

    def rows(self, pieces: list[EventBatch], key: int) -> list[EventBatch]:
        """Return the events of the code with ``key``, a batch for each piece that has some."""
        wanted = np.uint64(key)
        groups, known = self._known
        places = {id(piece): rows for group in groups for piece, rows in group.rows(wanted)}
        found = []
        for piece in pieces:
            if id(piece) in known:
                rows = places.get(id(piece))
                if rows is not None:
                    found.append(piece.take(rows))
            else:
                rows = np.flatnonzero(piece.code == wanted)
                if len(rows):
                    found.append(piece.take(rows))
        return found


class CodeReader:
    """Answers for single codes while the engine goes on judging.

    What is judged stands in a log that only grows and is read without a lock. Only for a code that
    is or was packed, whose story is told with its case's, the engine is made to wait.
    """

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self.engine = engine
        self.turns = turns
        self._held = HeldIndex()

    def refresh(self) -> None:
        """Index the events held back; to be called now and then, by one thread."""
        self._held.refresh(self._pieces())

    def _pieces(self) -> list[EventBatch]:
        waiting, in_hand = self.engine.buffer.held  # read as one: nothing is in neither
        return [*waiting, *in_hand]

    def path(self, text: str) -> dict[str, Any] | None:
        """Return the whole path of a code as JSON-ready values; None if it was never seen."""
        found = find_code(self.engine, text)
        if found is None:
            return None
        identity, key = found
        # Held ones first: what is judged in between is then found twice, not never.
        held = self._pending(key)
        judged = self._judged(identity, key)
        if judged is not None:
            known = {event["event_id"] for event in judged["path"]}
            held = [event for event in held if event["event_id"] not in known]
        if judged is None and not held:
            return None
        events = (judged or {}).pop("path", []) + held
        view, words = self.engine.view, self.engine.vocabulary
        drug = (judged or {}).pop("drug", -1)
        if drug < 0 and held:
            drug = held[0]["drug"]
        for event in held:
            del event["drug"]
        return {
            "code": identity,
            "drug_id": words.drugs.text(drug) or None if drug >= 0 else None,
            "drug_name": view.drug_name(drug) or None if drug >= 0 else None,
            **(judged or _NOTHING_JUDGED),
            "path": events,
            "path_zh": path_text(events, "zh"),
            "path_en": path_text(events, "en"),
            "judged": len(events) - len(held),
            "held": len(held),
        }

    def _judged(self, identity: str, key: int) -> dict[str, Any] | None:
        engine = self.engine
        if is_packed(engine, key):
            with self.turns:
                return self._trace(identity, key)
        for _ in range(TRIES):
            try:
                told = self._trace(identity, key)
            except (IndexError, KeyError):
                # The table grew, or the event was judged a moment ago and is not in the log yet.
                continue
            if told is not None or not engine.shards.archive:
                return told
            break  # it may be on its way to the archive, or back
        with self.turns:
            return self._trace(identity, key)

    def _trace(self, identity: str, key: int) -> dict[str, Any] | None:
        engine = self.engine
        trace = trace_live(engine, identity, key)
        if trace is None:
            return None
        words, view = engine.vocabulary, engine.view
        path = [{**event, "judged": True} for event in trace.path]
        return {
            "path": path,
            "drug": trace.drug,
            "batch_no": trace.batch or None,
            "place": trace.place,
            "holder_id": words.parties.text(trace.party) or None if trace.party >= 0 else None,
            "holder_name": view.party_name(trace.party) or None if trace.party >= 0 else None,
            "giver_id": words.parties.text(trace.giver) or None if trace.giver >= 0 else None,
            "sales": trace.sales,
            "recalled": trace.recalled,
            "voided": trace.voided,
            "parents": trace.parents,
            "contents": trace.contents,
            "contents_known": trace.contents_known,
        }

    def _pending(self, key: int) -> list[dict[str, Any]]:
        """Return the events of a code that wait for their day to close, by time."""
        found = self._held.rows(self._pieces(), key)
        if not found:
            return []
        batch = EventBatch.concat(found)
        batch = batch.take(np.argsort(batch.time, kind="stable"))
        log = EventLog()
        log.append(batch, np.full(len(batch), -1, np.int64))
        events = path_events(np.arange(len(batch)), log, self.engine.vocabulary, self.engine.view)
        closed = self.engine.clock_day
        drugs = batch.drug.tolist()
        days = (batch.time // DAY).tolist()
        return [
            {**event, "judged": False, "late": closed is not None and day <= closed, "drug": drug}
            for event, drug, day in zip(events, drugs, days, strict=True)
        ]


_NOTHING_JUDGED: dict[str, Any] = {
    "batch_no": None,
    "place": None,
    "holder_id": None,
    "holder_name": None,
    "giver_id": None,
    "sales": 0,
    "recalled": False,
    "voided": 0,
    "parents": [],
    "contents": [],
    "contents_known": 0,
}

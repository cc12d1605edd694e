"""Codes are told while the engine takes days, and asked for by many at once."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.core import archive, daybuffer
from trace_engine.core.archive import Away
from trace_engine.core.daybuffer import DayBuffer
from trace_engine.events.batch import (
    COLUMN_TYPES,
    DAY,
    STRING_COLUMNS,
    EventBatch,
)
from trace_engine.service import code_path
from trace_engine.service.code_path import HeldIndex


def batch_of(days: list[int], first_code: int = 0) -> EventBatch:
    """Return an event on each of ``days``, of codes that follow each other."""
    columns: dict[str, Any] = {
        name: np.zeros(len(days), dtype) for name, dtype in COLUMN_TYPES.items()
    }
    columns["time"] = np.array(days, np.int64) * DAY
    columns["code"] = np.arange(first_code, first_code + len(days), dtype=np.uint64)
    strings = pa.table({name: pa.array([""] * len(days)) for name in STRING_COLUMNS})
    return EventBatch(**columns, strings=strings)


def test_each_event_is_held_once_at_every_moment() -> None:
    """Whoever looks between two steps of the interpreter finds all events, and none twice."""
    buffer = DayBuffer()
    buffer.add(batch_of([1, 1, 2, 3]))
    buffer.add(batch_of([1, 2, 2, 3], 10))
    taken: list[int] = []
    seen: list[list[int]] = []

    def look(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            waiting, in_hand = buffer.held
            seen.append([int(code) for piece in (*waiting, *in_hand) for code in piece.code])
        return look

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != daybuffer.__file__:
            return None
        frame.f_trace_opcodes = True
        return look

    everything = sorted([*range(4), *range(10, 14)])
    days = buffer.take_days(4, lambda day: day)
    for _ in range(3):
        seen.clear()
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            _, _, slice_taken = next(days)
        finally:
            sys.settrace(before)
        assert len(seen) > 50
        expected = sorted(set(everything) - set(taken))
        # What was judged is in hand until the next days are asked for.
        for codes in seen:
            assert len(codes) == len(set(codes))
            assert set(expected) <= set(codes)
        taken += [int(code) for code in slice_taken.code]
    assert sorted(taken) == everything


@given(
    steps=st.lists(
        st.tuples(st.lists(st.integers(0, 6), max_size=5), st.integers(0, 3), st.booleans()),
        max_size=40,
    )
)
def test_what_is_held_is_found_however_it_came_and_went(
    steps: list[tuple[list[int], int, bool]],
) -> None:
    held, pieces = HeldIndex(), [batch_of([1, 1], 3)]
    for codes, gone, refreshed in steps:
        piece = batch_of([1] * len(codes))
        piece.code[:] = codes
        pieces = [*pieces[gone:], piece]
        if refreshed:
            held.refresh(pieces)
        for code in range(7):
            rows = [np.flatnonzero(piece.code == code) for piece in pieces]
            found = held.rows(pieces, code)
            assert [len(batch) for batch in found] == [len(some) for some in rows if len(some)]
            assert all((batch.code == code).all() for batch in found)
    assert len(held._known[0]) <= code_path.MOST_GROUPS
    held.refresh([])
    assert held._known == ([], frozenset())


def test_the_index_may_be_replaced_between_any_two_steps() -> None:
    held = HeldIndex()
    pieces = [batch_of([1, 2], 10 * i) for i in range(6)]
    turns = 0

    def look(frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal turns
        frame.f_trace_opcodes = True
        turns += 1
        held.refresh(pieces[turns % 4 :][:3])
        return look

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return look if frame.f_code.co_filename == code_path.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = held.rows(pieces[2:5], 31)
    finally:
        sys.settrace(before)
    assert turns > 20
    assert [batch.code.tolist() for batch in found] == [[31]]


def test_an_archived_code_is_looked_for_while_others_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between finding an entry and reading it the index may grow, or the code be live again."""
    away = Away()
    keys = np.arange(1, 41, dtype=np.uint64)
    away.add(keys, np.arange(40))
    plain = archive._matches
    meanwhile: list[Any] = []

    def interrupted(*arguments: Any) -> int:
        found = plain(*arguments)
        while meanwhile:
            meanwhile.pop()()
        return found

    monkeypatch.setattr(archive, "_matches", interrupted)
    more = np.arange(1000, 2000, dtype=np.uint64)
    meanwhile.append(lambda: away.add(more, np.arange(40, 1040)))
    which, _, numbers = away.matches(keys[:5])
    assert dict(zip(which.tolist(), numbers.tolist(), strict=True)) == {n: n for n in range(5)}
    _, slots, of_first = away.matches(keys[:1])
    meanwhile.append(lambda: away.take_out(slots, of_first))
    which, _, numbers = away.matches(keys[:2])
    assert (which.tolist(), numbers.tolist()) == ([1], [1])

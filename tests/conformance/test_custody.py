"""The kernels of custody say what docs/semantics.md says, signal by signal."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.conformance.drive import compiled, events_in, expected, late_of, plain
from tests.conformance.strategies import Case, case_of, cases


def agree(case: Case) -> None:
    events = events_in(case, voids=False)
    if not events:
        return
    rows, waiting = expected(events, case)
    got, got_waiting = compiled(events, case)
    for row in rows:
        assert got[row.event.event_id] == plain(row), row.event
    assert late_of(got_waiting) == late_of(waiting)


@given(cases(codes=2, events=8))
def test_short_histories(case: Case) -> None:
    agree(case)


@given(cases(codes=1, events=24))
def test_long_histories(case: Case) -> None:
    agree(case)


@pytest.mark.parametrize("seed", range(4))
def test_many_codes_at_once(seed: int) -> None:
    agree(case_of(seed, codes=250, events=12))

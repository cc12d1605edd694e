from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from trace_engine.service.settling import Settling


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_there_is_is_not_looked_at_again() -> None:
    kept = [[number] for number in range(1000)]
    settled = Settling(freezes=2)
    settled()
    assert not any(one is kept for one in gc.get_objects())
    more = [[number] for number in range(1000)]
    before = gc.get_freeze_count()
    settled()
    assert gc.get_freeze_count() >= before + len(more)


def test_it_ends() -> None:
    settled = Settling(freezes=1)
    settled()
    gc.unfreeze()
    settled()
    assert gc.get_freeze_count() == 0

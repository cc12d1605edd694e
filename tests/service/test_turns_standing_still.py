"""Nobody waits for a lock whose holder waits for room on a disk."""

from __future__ import annotations

import threading
import time

import pytest

from trace_engine.service.turns import StandsStill, Turns

SECONDS = 20.0


def test_who_waits_and_who_comes_is_sent_away_until_it_goes_on() -> None:
    turns, told = Turns(), []

    def ask() -> None:
        try:
            with turns:
                told.append("in")
        except StandsStill:
            told.append("away")

    with turns:
        waiting = [threading.Thread(target=ask) for _ in range(3)]
        for thread in waiting:
            thread.start()
        end = time.monotonic() + SECONDS
        while len(turns._queue) < len(waiting):
            assert time.monotonic() < end
            time.sleep(0.001)
        turns.stand_still()
        for thread in waiting:
            thread.join(SECONDS)
        assert told == ["away"] * 3
        with pytest.raises(StandsStill), turns:
            pass
        turns.go_on()
        last = threading.Thread(target=ask)
        last.start()
        time.sleep(0.02)
        assert told == ["away"] * 3  # it waits again
    last.join(SECONDS)
    assert told[3:] == ["in"]
    with turns:  # nobody holds it any more
        pass
    assert not turns._sent_away

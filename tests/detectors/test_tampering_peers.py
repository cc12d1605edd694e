"""What peers do is told the same to the last bit, whatever order they came in."""

from __future__ import annotations

import numpy as np

from trace_engine.detectors._tampering_peers import Yardstick
from trace_engine.detectors.record_tampering import RecordTampering


def test_mean_and_deviation_do_not_depend_on_the_order_of_arrival() -> None:
    random = np.random.default_rng(5)
    count = 60
    acts, events = random.integers(0, 30, count), random.integers(400, 3000, count)
    parameters = RecordTampering.parameters()
    told = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(count)
        yardstick = Yardstick.__new__(Yardstick)
        yardstick.events, yardstick.acts = events[order], acts[order]
        yardstick.types = np.ones(count, np.int8)
        yardstick.counts = yardstick.events >= parameters.minimum_events
        yardstick.minimum_peers = parameters.minimum_peers
        yardstick.by_types = {}
        told.append(yardstick.of(int(np.flatnonzero(order == 0)[0])))
    assert told[0] is not None
    assert len(set(told)) == 1

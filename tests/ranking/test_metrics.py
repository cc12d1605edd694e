from __future__ import annotations

import math

import numpy as np
import pytest

from trace_engine.ranking import metrics

R = np.array([True, False, True, False, False])


def test_known_answers():
    assert metrics.precision_at(R, 2) == 0.5
    assert metrics.recall_at(R, 2, 4) == 0.25
    # Hits at places 1 and 3, two relevant items never ranked.
    assert metrics.average_precision(R, 4) == pytest.approx((1 + 2 / 3) / 4)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert metrics.ndcg_at(R, 3, 4) == pytest.approx((1 + 1 / 2) / ideal)
    assert metrics.lift_at(R, 1, 2) == pytest.approx(1 / (2 / 5))


def test_a_perfect_ranking_is_one():
    perfect = np.array([True, True, False])
    assert metrics.average_precision(perfect, 2) == 1.0
    assert metrics.ndcg_at(perfect, 2, 2) == pytest.approx(1.0)


def test_short_lists_count_missing_places_as_misses():
    assert metrics.precision_at(np.array([True]), 4) == 0.25


def test_nothing_to_find_is_zero():
    none = np.zeros(3, bool)
    assert metrics.precision_at(none, 0) == 0.0
    assert metrics.recall_at(none, 2, 0) == 0.0
    assert metrics.average_precision(none, 0) == 0.0
    assert metrics.ndcg_at(none, 2, 0) == 0.0
    assert metrics.lift_at(np.zeros(0, bool), 2, 0) == 0.0

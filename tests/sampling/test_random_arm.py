from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.sampling.random_arm import systematic


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 70), st.integers(0, 2**62)
)
def test_size_is_fixed_and_strata_get_their_share(strata, size, seed):
    stratum = np.array(strata)
    drawn = systematic(stratum, size, seed)
    assert len(drawn) == len(set(drawn.tolist())) == min(size, len(stratum))
    for h in set(strata):
        share = min(size, len(stratum)) * strata.count(h) / len(stratum)
        assert np.floor(share) <= (stratum[drawn] == h).sum() <= np.ceil(share)


def test_every_unit_has_the_same_inclusion_probability():
    # 7 of 23 units in uneven strata, 6000 draws: 99.99 % of binomial counts lie within 4 sigma.
    stratum = np.array([0] * 3 + [1] * 12 + [2] * 8)
    times = np.zeros(23)
    draws = 6000
    for seed in range(draws):
        times[systematic(stratum, 7, seed)] += 1
    probability = 7 / 23
    sigma = np.sqrt(draws * probability * (1 - probability))
    assert np.abs(times - draws * probability).max() < 4 * sigma


def test_same_seed_same_draw_other_seed_other_draw():
    stratum = np.zeros(1000, np.int64)
    assert systematic(stratum, 50, 1).tolist() == systematic(stratum, 50, 1).tolist()
    assert systematic(stratum, 50, 1).tolist() != systematic(stratum, 50, 2).tolist()


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_is_drawn_for_nothing(size):
    assert len(systematic(np.zeros(5, np.int64), size, 1)) == 0


def test_nothing_is_drawn_from_nothing():
    assert len(systematic(np.zeros(0, np.int64), 5, 1)) == 0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trace_engine.ranking.evidence import background, combine_family


def slow_background(observed: list[float], exposure: list[float], total: float, trim: float):
    """The rule told plainly: the others' rate, without their worst share of exposure."""
    result = []
    for i, own in enumerate(exposure):
        others = [
            (o, e)
            for j, (o, e) in enumerate(zip(observed, exposure, strict=False))
            if j != i and e > 0
        ]
        size = total - own
        if own <= 0 or size * (1 - trim) <= 0:
            result.append(0.0)
            continue
        cut, left = trim * size, sum(o for o, _ in others)
        for o, e in sorted(others, key=lambda pair: -pair[0] / pair[1]):
            taken = min(e, cut)
            left -= o * taken / e
            cut -= taken
        result.append(own * max(left, 0.0) / (size * (1 - trim)))
    return result


sellers = st.lists(
    st.tuples(
        st.floats(0.01, 100),
        st.integers(0, 1000).map(float),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=200)
@given(sellers, st.floats(0, 5000), st.floats(0, 0.5))
def test_background_equals_the_plain_rule(pairs, silent, trim):
    observed = [o for o, _ in pairs]
    exposure = [e for _, e in pairs]
    total = sum(exposure) + silent
    fast = background(np.array(observed), np.array(exposure), total, trim)
    slow = slow_background(observed, exposure, total, trim)
    assert fast == pytest.approx(slow, rel=1e-7, abs=1e-7)


def test_background_leaves_out_own_findings():
    # Two sellers of equal exposure, nothing trimmed: each is expected to show what the other did.
    expected = background(np.array([10.0, 2.0]), np.array([50.0, 50.0]), 100.0, 0.0)
    assert expected == pytest.approx([2.0, 10.0])


def test_background_trims_the_worst_share_of_the_others():
    # 10 of the 100 other events have all the findings and are just what is trimmed.
    observed, exposure = np.array([7.0, 1.0]), np.array([10.0, 20.0])
    expected = background(observed, exposure, 120.0, 0.1)
    assert expected[1] == pytest.approx(0.0)
    # Seen from the seller with 7: the other's 1 stands on 20 of 110 events, of which 11 are cut.
    assert expected[0] == pytest.approx(10 * (1 - 11 / 20) / 99)


def test_background_of_a_seller_without_exposure_is_nothing():
    expected = background(np.array([3.0, 4.0]), np.array([0.0, 10.0]), 100.0, 0.0)
    assert expected.tolist() == [0.0, 0.0]


def test_family_counts_the_strongest_in_full_and_others_by_overlap():
    seller = np.array([0, 0, 1])
    combined = combine_family(seller, np.array([1.0, 2.0, 2.0]), 3, 0.5, 1e9)
    assert combined == pytest.approx([2.5, 2.0, 0.0], rel=1e-6)


def test_family_saturates_at_its_cap():
    combined = combine_family(np.array([0, 1]), np.array([1000.0, 1.0]), 2, 0.3, 4.0)
    assert combined[0] == pytest.approx(4.0)
    assert combined[1] == pytest.approx(4 * (1 - np.exp(-0.25)))


def test_family_with_cap_zero_counts_nothing():
    assert combine_family(np.array([0]), np.array([9.0]), 1, 0.3, 0.0).tolist() == [0.0]

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trace_engine.ranking.evidence import background, combine_family


def slow_background(observed, exposure, total, ratio, allowance):
    """The rule told plainly, seller by seller."""
    result = []
    pairs = [(o, e) for o, e in zip(observed, exposure, strict=True)]
    silent = max(total - sum(exposure), 0.0)
    for i, own in enumerate(exposure):
        others = [(o, e) for o, e in pairs[:i] + pairs[i + 1 :] if e > 0]
        while True:
            size = silent + sum(e for _, e in others)
            rate = sum(o for o, _ in others) / size if size > 1e-9 * total else 0.0
            kept = [(o, e) for o, e in others if o - allowance <= ratio * rate * e * (1 + 1e-9)]
            if len(kept) == len(others):
                break
            others = kept
        result.append(own * rate if own > 0 else 0.0)
    return result


sellers = st.lists(
    st.tuples(st.floats(0.01, 100), st.integers(0, 1000).map(float)), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=300)
@given(sellers, st.integers(0, 5000), st.floats(1, 5), st.floats(0, 10))
def test_background_equals_the_plain_rule(pairs, silent, ratio, allowance):
    observed = [o for o, _ in pairs]
    exposure = [e for _, e in pairs]
    total = sum(exposure) + silent
    fast = background(np.array(observed), np.array(exposure), total, ratio, allowance)
    slow = slow_background(observed, exposure, total, ratio, allowance)
    assert fast == pytest.approx(slow, rel=1e-7, abs=1e-7)


def test_background_leaves_out_own_findings():
    # Two sellers of equal exposure: each is expected to show what the other did.
    expected = background(np.array([10.0, 2.0]), np.array([50.0, 50.0]), 100.0, 3.0, 100.0)
    assert expected == pytest.approx([2.0, 10.0])


def test_background_leaves_out_others_who_show_far_too_much():
    # Rate of the others of the third: 31 / 200, so 3 × it × 100 + 2 = 48.5 keeps both in.
    observed, exposure = np.array([30.0, 1.0, 1.0]), np.array([100.0, 100.0, 100.0])
    expected = background(observed, exposure, 300.0, 3.0, 2.0)
    assert expected == pytest.approx([1.0, 15.5, 15.5])
    # Among a thousand silent others, 30 stands out, and a stray 1 does not.
    expected = background(observed, exposure, 100_000.0, 3.0, 2.0)
    assert expected == pytest.approx([2 * 100 / 99_900, 100 / 99_800, 100 / 99_800])


def test_background_of_a_seller_without_exposure_is_nothing():
    expected = background(np.array([3.0, 4.0]), np.array([0.0, 10.0]), 100.0, 3.0, 2.0)
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

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from trace_engine.sampling import estimate_prevalence
from trace_engine.sampling.prevalence import wilson
from trace_engine.sampling.random_arm import systematic


def lines(probabilities, risk=0):
    n = len(probabilities)
    return pa.table(
        {
            "sequence": list(range(1, n + risk + 1)),
            "arm": ["random"] * n + ["risk"] * risk,
            "inclusion_probability": [*probabilities, *[1.0] * risk],
        }
    )


def outcomes(values):
    return pa.table({"sequence": list(values), "outcome": list(values.values())})


def test_equal_probabilities_by_hand():
    plan = lines([0.1] * 10, risk=3)
    results = dict.fromkeys(range(1, 11), "clean") | {1: "violation", 2: "violation"}
    # The risk arm is full of violations and says nothing of the market.
    results |= dict.fromkeys((11, 12, 13), "violation")
    found = estimate_prevalence(plan, outcomes(results))
    assert found.horvitz_thompson == pytest.approx(0.2)
    assert found.hajek == pytest.approx(0.2)
    assert found.population == pytest.approx(100)
    assert (found.violations, found.observed, found.missing) == (2, 10, 0)
    assert found.low < 0.2 < found.high


def test_unequal_probabilities_by_hand():
    plan = lines([0.5, 0.5, 0.1])
    found = estimate_prevalence(plan, outcomes({1: "violation", 2: "clean", 3: "clean"}))
    assert found.horvitz_thompson == pytest.approx(2 / 14)
    assert found.hajek == pytest.approx(2 / 14)


def test_lines_not_reached_are_missing_not_clean():
    plan = lines([0.1] * 4)
    found = estimate_prevalence(plan, outcomes({1: "violation", 2: "clean", 3: None}))
    assert found.hajek == pytest.approx(0.5)
    assert found.horvitz_thompson == pytest.approx(0.25)
    assert (found.observed, found.missing) == (2, 2)


def test_a_census_has_no_uncertainty():
    found = estimate_prevalence(
        lines([1.0] * 4), outcomes({1: "violation", 2: "clean", 3: "clean", 4: "clean"})
    )
    assert (found.low, found.hajek, found.high) == (0.25, 0.25, 0.25)


def test_nothing_observed_is_unknown():
    found = estimate_prevalence(lines([0.1]), outcomes({1: None}))
    assert math.isnan(found.hajek)
    assert math.isnan(found.high)
    assert found.as_dict()["missing"] == 1


def test_wilson_by_hand():
    # 0 of 10 at 95 %: z = 1.959964, upper end z² / (n + z²).
    low, high = wilson(0.0, 10, 0.95)
    assert low == 0.0
    assert high == pytest.approx(3.841459 / 13.841459, rel=1e-5)


@pytest.mark.parametrize(
    "values,match",
    [
        ({1: "guilty"}, "found .'guilty'., expected violation or clean"),
        ({9: "clean"}, r"lines \[9\] that are not in the plan"),
    ],
)
def test_wrong_outcomes_are_refused(values, match):
    with pytest.raises(ValueError, match=match):
        estimate_prevalence(lines([0.5]), outcomes(values))


def test_outcomes_given_twice_and_odd_confidence_are_refused():
    twice = pa.table({"sequence": [1, 1], "outcome": ["clean", "clean"]})
    with pytest.raises(ValueError, match="twice"):
        estimate_prevalence(lines([0.5]), twice)
    with pytest.raises(ValueError, match="confidence"):
        estimate_prevalence(lines([0.5]), outcomes({1: "clean"}), confidence=1.0)


def test_estimate_is_unbiased_and_interval_covers_under_the_real_draw():
    rng = np.random.default_rng(3)
    stratum = np.sort(rng.integers(0, 6, 400))
    guilty = rng.random(400) < np.where(stratum == 2, 0.3, 0.03)
    truth = guilty.mean()
    estimates, covered = [], 0
    for seed in range(400):
        drawn = systematic(stratum, 60, seed)
        found = estimate_prevalence(
            lines([60 / 400] * 60),
            outcomes({i + 1: "violation" if guilty[u] else "clean" for i, u in enumerate(drawn)}),
        )
        estimates.append(found.horvitz_thompson)
        covered += found.low <= truth <= found.high
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth) < 4 * error
    assert covered / 400 > 0.93

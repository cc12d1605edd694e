"""How common violations are, from the outcomes of the random arm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

OUTCOMES = ("violation", "clean")


@dataclass(frozen=True, slots=True)
class Prevalence:
    """Estimates of the share of sellers that violate. NaN where nothing was observed."""

    horvitz_thompson: float  # sum of y / probability over the sellers of the frame
    hajek: float  # the same over the estimated frame: right also when some were not reached
    low: float  # interval of the Hájek estimate
    high: float
    confidence: float
    violations: int
    observed: int  # lines of the random arm with an outcome
    missing: int  # lines without
    population: float  # sellers in the frame

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-ready but for NaN."""
        return asdict(self)


def estimate_prevalence(
    plan: pa.Table, outcomes: pa.Table, *, confidence: float = 0.95
) -> Prevalence:
    """Estimate the share of violating sellers from the random arm of ``plan``.

    ``outcomes`` has ``sequence`` (a line of the plan) and ``outcome`` (``violation`` or ``clean``;
    null: not reached). The risk arm says nothing of the market and is left out. The interval is
    Wilson's with the effective number of observations ``(Σw)² / Σw²`` (Kish 1965) and the
    finite population correction, so that it closes as the sample nears the whole frame; as the
    systematic draw spreads over strata, it is on the safe side.

    Raises ``ValueError`` for unknown outcomes, lines that are not in the plan and lines given
    twice.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: found {confidence}, expected between 0 and 1")
    sequence = outcomes.column("sequence").cast(pa.int64())
    if len(pc.unique(sequence)) < len(sequence):
        raise ValueError("outcomes: found a sequence twice, expected one outcome a line")
    unknown = set(pc.unique(outcomes.column("outcome")).to_pylist()) - {*OUTCOMES, None}
    if unknown:
        raise ValueError(f"outcomes: found {sorted(unknown)}, expected {' or '.join(OUTCOMES)}")
    strange = pc.filter(
        sequence, pc.invert(pc.is_in(sequence, value_set=plan.column("sequence").combine_chunks()))
    ).to_pylist()
    if strange:
        raise ValueError(f"outcomes: found lines {strange[:5]} that are not in the plan")
    arm = plan.filter(pc.equal(plan.column("arm"), "random"))
    row = pc.index_in(arm.column("sequence").combine_chunks(), value_set=sequence.combine_chunks())
    outcome = outcomes.column("outcome").combine_chunks().take(row)
    known = pc.is_valid(outcome).to_numpy(zero_copy_only=False)
    bad = pc.fill_null(pc.equal(outcome, "violation"), False).to_numpy(zero_copy_only=False)
    weight = 1 / arm.column("inclusion_probability").to_numpy()
    population = float(weight.sum())
    observed = weight[known]
    if not len(observed):
        nan = float("nan")
        return Prevalence(nan, nan, nan, nan, confidence, 0, 0, len(weight), population)
    hits = float(weight[bad].sum())
    share = hits / float(observed.sum())
    effective = float(observed.sum() ** 2 / np.square(observed).sum())
    low, high = wilson(share, _corrected(effective, len(observed), population), confidence)
    return Prevalence(
        horvitz_thompson=hits / population,
        hajek=share,
        low=low,
        high=high,
        confidence=confidence,
        violations=int(bad.sum()),
        observed=len(observed),
        missing=len(weight) - len(observed),
        population=population,
    )


def _corrected(effective: float, observed: int, population: float) -> float:
    """Return the number of observations that an infinite population would need for as much."""
    unseen = (population - observed) / max(population - 1, 1.0)
    return effective / unseen if unseen > 1e-12 else float("inf")


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Return the score interval of a share seen in ``n`` observations (Wilson 1927)."""
    if n == float("inf"):
        return share, share
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the interval closes exactly; rounding must not say otherwise.
    low = 0.0 if share <= 0 else max(0.0, middle - half)
    high = 1.0 if share >= 1 else min(1.0, middle + half)
    return low, high

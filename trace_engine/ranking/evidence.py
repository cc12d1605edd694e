"""From findings to evidence: severity, exposure, shrinkage and families. See ``docs/ranking.md``.

All evidence is counted in nats: ``x`` nats are a probability of ``1 - exp(-x)``, so independent
evidence adds up (noisy-OR: ``1 - prod(1 - p) = 1 - exp(-sum x)``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.ranking.parameters import RankingParameters

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class FindingColumns:
    """Findings as numbers; all arrays have shape ``(m,)``."""

    seller: Int64  # index of the subject
    detector: Int64  # index into a list of detector ids
    severity: Float64  # 0-1
    codes: Float64  # how many codes the finding covers


@dataclass(slots=True)
class Pairs:
    """One row for each seller and detector with a finding, ordered by both; shape ``(p,)``."""

    seller: Int64
    detector: Int64
    count: Int64  # findings
    general: Float64  # nats that exposure may explain
    specific: Float64  # nats that it cannot
    expected_count: Float64  # findings expected of this exposure at the market's rate
    expected: Float64  # nats of ``general`` expected likewise
    evidence: Float64  # shrunk nats


def finding_nats(severity: Float64, codes: Float64, parameters: RankingParameters) -> Float64:
    """Return the evidence of single findings, before exposure: shape of ``severity``, nats.

    ``-ln(1 - certainty * severity)``, times ``1 + volume_weight * log10(codes)``.
    """
    sure = parameters.certainty * np.clip(np.nan_to_num(severity), 0.0, 1.0)
    volume = 1.0 + parameters.volume_weight * np.log10(np.maximum(np.nan_to_num(codes), 1.0))
    nats: Float64 = -np.log1p(-sure) * volume
    return nats


def background(
    observed: Float64,
    exposure: Float64,
    total_exposure: float,
    ordinary_ratio: float,
    outlier_allowance: float,
) -> Float64:
    """Return what each seller would show at the benign rate of the other sellers.

    ``observed`` and ``exposure`` have shape ``(p,)`` and hold the sellers that show anything;
    every other seller shows 0 and is in ``total_exposure`` only. The rate is that of the *others*,
    so that a seller's own findings never excuse it. It begins as their plain rate ``r``; then those
    who show more than ``ordinary_ratio * r * exposure + outlier_allowance`` are left out, so that
    violators do not excuse each other, and the rate is taken again, until nobody else drops out.
    Sellers without exposure have no rate: they are left out, and nothing is expected of them.
    """
    expected = np.zeros(len(observed))
    pool = np.flatnonzero(exposure > 0)
    if not len(pool) or total_exposure <= 0:
        return expected
    seen, size = observed[pool], exposure[pool]
    silent = max(total_exposure - float(size.sum()), 0.0)
    # A seller is in while the rate is at least this; sorted, the ones in are a prefix.
    needs = np.maximum(seen - outlier_allowance, 0.0) / (ordinary_ratio * size)
    order = np.argsort(needs, kind="stable")
    seen, size, needs = seen[order], size[order], needs[order]
    sum_seen = np.concatenate(([0.0], np.cumsum(seen)))
    sum_size = np.concatenate(([silent], silent + np.cumsum(size)))
    place = np.arange(len(seen))
    count = np.full(len(seen), len(seen))
    while True:
        own = place < count
        kept = np.where(own, sum_size[count] - size, sum_size[count])
        left = np.where(own, sum_seen[count] - seen, sum_seen[count])
        left = np.maximum(left, 0.0)
        rate = np.divide(left, kept, out=np.zeros_like(left), where=kept > 1e-9 * total_exposure)
        # Only downwards: whoever was left out stays out, so this ends. The hair's breadth keeps
        # those in who stand exactly at the edge, whatever the rounding.
        fewer = np.minimum(np.searchsorted(needs, rate * (1 + 1e-9), side="right"), count)
        if np.array_equal(fewer, count):
            break
        count = fewer
    expected[pool[order]] = rate * size
    return expected


def pair_evidence(
    columns: FindingColumns,
    exposures: list[Float64],
    parameters: RankingParameters,
) -> Pairs:
    """Sum findings by seller and detector and shrink them by exposure.

    ``exposures[d]`` is the exposure of every seller to detector ``d``, shape ``(sellers,)``.
    With ``V`` the nats seen, ``E`` those ordinary for the exposure (``ordinary_ratio`` times what
    :func:`background` expects) and ``a`` the prior's shape, general evidence is the logarithm of
    the posterior mean of the relative risk under a gamma-Poisson model, ``ln((a + V) / (a + E))``,
    0 where ``V < E``; specific evidence is judged against ``E = 0``.
    """
    p = parameters
    severity = np.clip(np.nan_to_num(columns.severity), 0.0, 1.0)
    nats = finding_nats(severity, columns.codes, p)
    specific_share = np.clip((severity - p.specific_severity) / (1 - p.specific_severity), 0, 1)
    # Sums of floats depend on their order: fix it by value, so that the order of rows is nothing.
    order = np.lexsort((specific_share, nats, columns.detector, columns.seller))
    seller, detector = columns.seller[order], columns.detector[order]
    nats, specific_share = nats[order], specific_share[order]
    new = np.empty(len(order), bool)
    new[:1] = True
    new[1:] = (seller[1:] != seller[:-1]) | (detector[1:] != detector[:-1])
    starts = np.flatnonzero(new)
    if not len(starts):
        empty, nothing = np.zeros(0), np.zeros(0, np.int64)
        return Pairs(nothing, nothing, nothing, empty, empty, empty, empty, empty)
    specific = np.add.reduceat(nats * specific_share, starts)
    general = np.add.reduceat(nats * (1 - specific_share), starts)
    count = np.diff(np.append(starts, len(order)))
    seller, detector = seller[starts], detector[starts]
    expected, expected_count = np.zeros(len(starts)), np.zeros(len(starts))
    for d in np.unique(detector):
        rows = np.flatnonzero(detector == d)
        size = exposures[int(d)]
        total = float(size.sum())
        own = size[seller[rows]]
        expected[rows] = background(
            general[rows], own, total, p.ordinary_ratio, p.outlier_allowance
        )
        expected_count[rows] = background(
            count[rows].astype(float), own, total, p.ordinary_ratio, p.outlier_allowance
        )
    a = p.prior_evidence
    usual = p.ordinary_ratio * expected
    evidence = np.log1p(specific / a + np.maximum(general - usual, 0.0) / (a + usual))
    return Pairs(seller, detector, count, general, specific, expected_count, expected, evidence)


def combine_family(
    seller: Int64, evidence: Float64, sellers: int, overlap: float, cap: float
) -> Float64:
    """Combine the detectors of one family: shape ``(sellers,)``, nats, below ``cap``.

    Detectors of one family look at the same movements, so the strongest counts in full and the
    others at ``overlap``; the sum ``r`` saturates as ``cap * (1 - exp(-r / cap))``.
    """
    strongest = np.zeros(sellers)
    np.maximum.at(strongest, seller, evidence)
    total: Any = np.bincount(seller, weights=evidence, minlength=sellers)
    if cap <= 0:
        return np.zeros(sellers)
    raw = strongest + overlap * np.maximum(total - strongest, 0.0)
    combined: Float64 = -cap * np.expm1(-raw / cap)
    return combined

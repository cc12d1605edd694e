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
    observed: Float64, exposure: Float64, total_exposure: float, trim_share: float
) -> Float64:
    """Return what each seller would show at the rate of the other sellers.

    ``observed`` and ``exposure`` have shape ``(p,)`` and hold the sellers that show anything;
    every other seller shows 0 and is in ``total_exposure`` only. The rate is that of the *others*
    (so that a seller's own findings never excuse it), without the ``trim_share`` of their exposure
    that has the highest rates (so that violators do not excuse each other). Sellers without
    exposure have no rate: they are left out, and nothing is expected of them.
    """
    expected = np.zeros(len(observed))
    pool = np.flatnonzero(exposure > 0)
    if not len(pool) or total_exposure <= 0:
        return expected
    seen, size = observed[pool], exposure[pool]
    order = np.argsort(-(seen / size), kind="stable")
    seen, size = seen[order], size[order]
    ends = np.cumsum(size)
    # Cumulative observation over cumulative exposure, highest rates first: a concave polygon.
    sums = np.cumsum(seen)
    x = np.concatenate(([0.0], ends, [max(total_exposure, ends[-1])]))
    y = np.concatenate(([0.0], sums, [sums[-1]]))
    others = np.maximum(total_exposure - size, 0.0)
    cut = trim_share * others
    # The cut is made in the order without this seller: if it stands before the cut, the cut lies
    # its own width further along.
    inside = ends - size < cut
    trimmed = np.where(inside, np.interp(cut + size, x, y) - seen, np.interp(cut, x, y))
    left = np.maximum(sums[-1] - seen - trimmed, 0.0)
    kept = others - cut
    rate = np.divide(left, kept, out=np.zeros_like(left), where=kept > 0)
    expected[pool[order]] = rate * size
    return expected


def pair_evidence(
    columns: FindingColumns,
    exposures: list[Float64],
    parameters: RankingParameters,
) -> Pairs:
    """Sum findings by seller and detector and shrink them by exposure.

    ``exposures[d]`` is the exposure of every seller to detector ``d``, shape ``(sellers,)``.
    With ``V`` the nats seen, ``E`` those expected and ``a`` the prior's shape, general evidence is
    the logarithm of the posterior mean of the relative risk under a gamma-Poisson model,
    ``ln((a + V) / (a + E))``; specific evidence is judged against ``E = 0``.
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
        expected[rows] = background(general[rows], own, total, p.trim_share)
        expected_count[rows] = background(count[rows].astype(float), own, total, p.trim_share)
    a = p.prior_evidence
    evidence = np.log1p(specific / a + np.maximum(general - expected, 0.0) / (a + expected))
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

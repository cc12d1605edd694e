"""Measures of a ranked list against a known set of relevant items. All are plain floats.

``relevant`` is an array of booleans in the order of the ranking, shape ``(n,)``; ``total`` is how
many relevant items there are in all, ranked or not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ranking = npt.NDArray[np.bool_]


def precision_at(relevant: Ranking, k: int) -> float:
    """Return the share of the first ``k`` that are relevant; places left empty count as misses."""
    return float(relevant[:k].sum()) / k if k > 0 else 0.0


def recall_at(relevant: Ranking, k: int, total: int) -> float:
    """Return the share of all relevant items that stand among the first ``k``."""
    return float(relevant[:k].sum()) / total if total else 0.0


def average_precision(relevant: Ranking, total: int) -> float:
    """Return the mean, over relevant items, of the precision at the place of each (unranked: 0)."""
    places = np.flatnonzero(relevant)
    if not total or not len(places):
        return 0.0
    return float((np.arange(1, len(places) + 1) / (places + 1)).sum()) / total


def ndcg_at(relevant: Ranking, k: int, total: int) -> float:
    """Return the normalised discounted cumulative gain of the first ``k``, gains being 0 or 1."""
    ideal = (1 / np.log2(np.arange(2, min(k, total) + 2))).sum()
    gain = (relevant[:k] / np.log2(np.arange(2, len(relevant[:k]) + 2))).sum()
    return float(gain / ideal) if ideal else 0.0


def lift_at(relevant: Ranking, k: int, total: int) -> float:
    """Return the precision at ``k`` divided by that of a random order of the same list."""
    base = total / len(relevant) if len(relevant) else 0.0
    return precision_at(relevant, k) / base if base else 0.0

"""Measures of how things are spread over others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def jensen_shannon(first: npt.ArrayLike, second: npt.ArrayLike) -> Any:
    """Return the Jensen-Shannon divergence of distributions, in bits: 0 equal, 1 apart.

    Counts or shares over the last axis (they are divided by their sums); other axes broadcast. Where
    one of the two has nothing at all the divergence is not a number.
    """
    p, q = (np.asarray(counts, np.float64) for counts in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = (x / x.sum(axis=-1, keepdims=True) for x in (p, q))
        middle = (p + q) / 2
        terms = sum(np.where(x > 0, x * np.log2(x / middle), x * 0) for x in (p, q))
    return np.clip(np.sum(terms, axis=-1) / 2, 0.0, 1.0)

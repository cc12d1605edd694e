"""Which rows have what is asked: in one pass, without a branch that depends on the row.

Events of all roles come mixed, so that a processor cannot guess what the next one is. Writing every
row and moving on only past those wanted costs less than asking of each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel


@kernel
def _count(values: npt.NDArray[np.int8], counts: npt.NDArray[np.int64]) -> None:
    for i in range(values.shape[0]):
        counts[values[i]] += 1


def counts_of(values: npt.NDArray[np.int8], size: int) -> npt.NDArray[np.int64]:
    """Return how often each number from 0 to ``size - 1`` occurs, shape ``(size,)``."""
    counts = np.zeros(size, np.int64)
    _count(values, counts)
    return counts


@kernel
def _pick(
    values: npt.NDArray[np.int8],
    wanted: npt.NDArray[np.int64],
    count: int,
    out: npt.NDArray[np.int64],
) -> None:
    """Write the ``count`` places of values that are ``wanted`` (1, else 0)."""
    m = 0
    i = 0
    while m < count:
        out[m] = i
        m += wanted[values[i]]
        i += 1


def rows_with(
    values: npt.NDArray[np.int8],
    wanted: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the places, ascending, whose number is ``wanted`` (by number).

    ``counts``: how often each number occurs, as :func:`counts_of` says.
    """
    out = np.empty(int(counts[wanted].sum()), np.int64)
    _pick(values, wanted.astype(np.int64), len(out), out)
    return out

"""Which rows have what is asked: in one pass, without a branch that depends on the row.

Events of all roles come mixed, so that a processor cannot guess what the next one is. Writing every
row and moving on only past those wanted costs less than asking of each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel


@kernel
def _pick(
    values: npt.NDArray[np.int8], wanted: npt.NDArray[np.int64], out: npt.NDArray[np.int64]
) -> int:
    """Write the places of values that are ``wanted`` (1, else 0); ``out`` has room for one more."""
    m = 0
    for i in range(values.shape[0]):
        out[m] = i
        m += wanted[values[i]]
    return m


def rows_with(values: npt.NDArray[np.int8], wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the places, ascending, whose small number (0 or more) is ``wanted``, by number."""
    out = np.empty(len(values) + 1, np.int64)
    m = _pick(values, wanted.astype(np.int64), out)
    return out[:m].copy()

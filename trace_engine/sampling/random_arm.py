"""Draw sellers at random with inclusion probabilities that are known exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def systematic(stratum: Int64, size: int, seed: int) -> Int64:
    """Return ``min(size, n)`` of ``n`` units, in frame order, every unit with the same chance.

    Systematic sampling in integers: the frame is ordered by ``stratum`` (shape ``(n,)``) and at
    random within it; with a start ``u`` uniform on ``0 .. n-1``, unit ``i`` is drawn if
    ``((i + 1) * size + u) // n > (i * size + u) // n``. Of the ``n`` starts exactly ``size`` draw
    any given unit, so its probability is ``size / n``; the sample holds exactly ``size`` units, and
    of every stratum its share ``size * n_h / n`` rounded down or up (Madow 1949; Särndal, Swensson
    and Wretman 1992, 3.4). Units must be in an order that does not depend on how they were read.

    The numbers come from the raw stream of PCG64, which numpy keeps stable over versions.
    """
    n = len(stratum)
    if size <= 0 or n == 0:
        return np.zeros(0, np.int64)
    stream = np.random.PCG64(seed)
    order = np.lexsort((stream.random_raw(n), stratum))
    if size >= n:
        return order.astype(np.int64)
    # Reject the last, incomplete run of numbers, so that every start is equally likely.
    limit = 2**64 - 2**64 % n
    start = limit
    while start >= limit:
        start = int(stream.random_raw())
    steps = (np.arange(n + 1, dtype=np.int64) * size + start % n) // n
    drawn: Int64 = order[np.diff(steps) > 0].astype(np.int64)
    return drawn

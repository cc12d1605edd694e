"""Where the messages of one reading must be handed to the shard one after the other.

Messages between two closings may be taken together: only one that raises the latest day seen closes
days, and it must come last (see :class:`trace_engine.cluster.shard.Shard`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.events.batch import DAY
from trace_engine.evidence.findings import SHANGHAI_OFFSET

Int64 = npt.NDArray[np.int64]
_NEVER = np.iinfo(np.int64).min


def cuts(
    times: Int64,
    message: Int64,
    received: Int64,
    latest_day: int | None,
    future_days: int | None,
) -> list[int]:
    """Return the ends of the stretches of events to take together, the last one ``len(times)``.

    ``times`` and ``message`` (shape ``(n,)``, by message) are the time (µs, Shanghai) of each event
    and the index of its message; ``received`` (µs, UTC, 0 unknown) is by message index.
    """
    if len(times) == 0:
        return []
    first = np.flatnonzero(np.diff(message, prepend=-1))
    stop = np.append(first[1:], len(times))
    days = times // DAY
    day_received = (received[message[first]] + SHANGHAI_OFFSET) // DAY
    if future_days is not None:
        known = received[message] > 0
        limit = (received[message] + SHANGHAI_OFFSET) // DAY + future_days
        days = np.where(known & (days > limit), _NEVER, days)
    highest = np.maximum.accumulate(np.maximum.reduceat(days, first))
    seen = np.maximum(highest, _NEVER if latest_day is None else latest_day)
    before = np.concatenate([[_NEVER if latest_day is None else latest_day], seen[:-1]])
    # The shard is told one time of receipt: messages of two days are never taken together.
    ends = (seen > before) | (np.diff(day_received, append=day_received[-1]) != 0)
    ends[-1] = True
    return [int(end) for end in stop[ends]]

"""Where goods left from, against the registered places of who sent them.

Two regions *agree* at a level as ``remote_dispatch`` defines it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf
from trace_engine.detectors.base import Slice
from trace_engine.registry.regions import load_regions

Level = Literal["province", "city", "county"]

_PROVINCE, _CITY, _COUNTY = 0, 1, 2
_LEVELS: dict[str, int] = {"province": _PROVINCE, "city": _CITY, "county": _COUNTY}


class _Places(NamedTuple):
    """What agreeing needs to know of each region; arrays of shape ``(number of regions,)``."""

    province: npt.NDArray[np.int8]
    city: npt.NDArray[np.int32]
    today: npt.NDArray[np.int16]  # the region in force that took its place, or itself
    grain: npt.NDArray[np.int8]  # 0 names a province, 1 a city, 2 a county


@lru_cache(maxsize=1)
def _places() -> _Places:
    regions = load_regions()
    today = np.arange(len(regions), dtype=np.int16)
    for _ in range(20):  # chains of successors are short; the bound guards against a loop
        following = regions.successor[today]
        today = np.where(following >= 0, following, today).astype(np.int16)
    grain = np.array([_grain(code) for code in regions.codes], np.int8)
    grain[regions.is_province] = 0
    return _Places(regions.province, regions.city, today, grain)


def _grain(code: str) -> int:
    return 1 if code.endswith("00") else 2


@leaf
def _agree(
    a: np.int64,
    b: np.int64,
    level: int,
    province: npt.NDArray[np.int8],
    city: npt.NDArray[np.int32],
    today: npt.NDArray[np.int16],
    grain: npt.NDArray[np.int8],
) -> bool:
    """Return whether two regions agree at ``level``, as far as both are known."""
    known = min(level, min(grain[a], grain[b]))
    if known == _PROVINCE:
        return bool(province[a] == province[b])
    if known == _CITY:
        return bool(city[a] == city[b])
    return bool(today[a] == today[b])


@kernel
def _judge(
    rows: npt.NDArray[np.int64],
    source: npt.NDArray[np.int32],
    stated: npt.NDArray[np.int16],
    offsets: npt.NDArray[np.int64],
    dispatch: npt.NDArray[np.int16],
    level: int,
    province: npt.NDArray[np.int8],
    city: npt.NDArray[np.int32],
    today: npt.NDArray[np.int16],
    grain: npt.NDArray[np.int8],
    apart: npt.NDArray[np.int8],
) -> None:
    """Write the coarsest level, up to ``level``, that no place of the seller agrees at; -1 none."""
    for i in range(rows.shape[0]):
        giver, region = source[rows[i]], np.int64(stated[rows[i]])
        apart[i] = -1
        for at in range(level + 1):
            found = False
            for j in range(offsets[giver], offsets[giver + 1]):
                if _agree(np.int64(dispatch[j]), region, at, province, city, today, grain):
                    found = True
                    break
            if not found:
                apart[i] = at
                break


def apart_from_places(
    data: Slice, rows: npt.NDArray[np.int64], level: Level
) -> npt.NDArray[np.int8]:
    """Return the coarsest level at which goods left from none of their giver's places, ``(m,)``.

    0 another province, 1 another city, 2 another county; -1 where a place agrees at ``level``. Each
    of ``rows`` must state its ship-from region and have a giver with a registered place.
    """
    batch, view = data.batch, data.registry
    apart = np.empty(len(rows), np.int8)
    _judge(
        rows,
        batch.source,
        batch.source_region,
        view.dispatch_offsets,
        view.dispatch_regions,
        _LEVELS[level],
        *_places(),
        apart,
    )
    return apart

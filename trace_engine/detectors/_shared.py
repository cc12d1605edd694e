"""Small things several detectors need: roles of kinds, what a sale is worth, lists of drugs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.events.batch import EventBatch
from trace_engine.events.kinds import INFO, EventKind, Role
from trace_engine.policy import Policy
from trace_engine.policy.categories import Categories
from trace_engine.registry import RegistryView

if TYPE_CHECKING:
    from trace_engine.detectors.base import Slice

ROLE_OF: npt.NDArray[np.int8] = np.array([int(INFO[kind].role) for kind in EventKind], np.int8)
"""Role by kind, shape ``(number of kinds,)``."""


def has_role(batch: EventBatch, roles: Iterable[Role], but: Iterable[EventKind] = ()) -> Any:
    """Return which events have one of ``roles`` and none of the kinds ``but``, shape ``(n,)``."""
    wanted = np.isin(ROLE_OF, [int(role) for role in roles])
    wanted[[int(kind) for kind in but]] = False
    return wanted[batch.kind]


def packs(batch: EventBatch, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the smallest packs of events, at least 1 each, shape ``(m,)``."""
    return np.maximum(batch.quantity[rows].astype(np.int64), 1)


def worth(batch: EventBatch, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return price × packs in fen, -1 where the price is not known, shape ``(m,)``."""
    price = batch.price[rows].astype(np.int64)
    return np.where(price >= 0, price * packs(batch, rows), -1)


@lru_cache(maxsize=4)
def _categories(policy: Policy, registry: RegistryView) -> Categories:
    return Categories(policy, registry)


def categories_of(data: Slice) -> Categories:
    """Return the lists of the slice's policy over its registry (built once for each pair)."""
    return _categories(data.policy, data.registry)

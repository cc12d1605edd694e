"""Small things several detectors need: roles of kinds, lists of drugs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.detectors.base import kinds_with
from trace_engine.events.batch import EventBatch
from trace_engine.events.kinds import EventKind, Role
from trace_engine.policy import Policy
from trace_engine.policy.categories import Categories
from trace_engine.registry import RegistryView
from trace_engine.registry.types import EnterpriseType

if TYPE_CHECKING:
    from trace_engine.detectors.base import Slice


def has_role(batch: EventBatch, roles: Iterable[Role], but: Iterable[EventKind] = ()) -> Any:
    """Return which events have one of ``roles`` and none of the kinds ``but``, shape ``(n,)``."""
    wanted = kinds_with(roles)
    wanted[[int(kind) for kind in but]] = False
    return wanted[batch.kind]


@lru_cache(maxsize=4)
def _categories(policy: Policy, registry: RegistryView) -> Categories:
    return Categories(policy, registry)


def categories_of(data: Slice) -> Categories:
    """Return the lists of the slice's policy over its registry (built once for each pair)."""
    return _categories(data.policy, data.registry)


def with_days(
    reasons: Sequence[str], choice: npt.NDArray[np.int64], days: npt.NDArray[np.int64]
) -> npt.NDArray[np.str_]:
    """Return ``reasons[choice]``, each with its number of ``days`` in place of ``{}``.

    ``choice``, ``days`` and the texts returned have the shape ``(m,)``.
    """
    pairs = zip(choice.tolist(), days.tolist(), strict=True)
    return np.array([reasons[of].format(number) for of, number in pairs], np.str_)


def parties_of_type(data: Slice, types: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Return, by party, which the registry has with one of ``types``; one entry more, for -1."""
    return data.table(_of_types, frozenset(int(one) for one in types))


def _of_types(data: Slice, types: frozenset[int]) -> npt.NDArray[np.bool_]:
    wanted = np.zeros(len(EnterpriseType), np.bool_)
    wanted[list(types)] = True
    return np.append(wanted[data.registry.party_type], False)

"""Find schemes and twins by themselves: every module of a package names what it brings."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import Protocol, TypeVar


class _Planted(Protocol):
    @property
    def name(self) -> str: ...


K = TypeVar("K", bound=_Planted)


def gather(package: ModuleType, attribute: str, kind: type[K]) -> tuple[K, ...]:
    """Return the ``kind`` objects that the modules of ``package`` list under ``attribute``.

    In order of module name, then as listed. A module without the attribute only helps others.
    Raises TypeError for anything else in a list and ValueError for a name that occurs twice.
    """
    found: list[K] = []
    for module in _modules(package):
        for item in getattr(module, attribute, ()):
            if not isinstance(item, kind):
                raise TypeError(
                    f"{module.__name__}.{attribute}: found {item!r}, expected {kind.__name__}"
                )
            found.append(item)
    names = [item.name for item in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{package.__name__}: planted twice under one name: {', '.join(twice)}")
    return tuple(found)


@cache
def _modules(package: ModuleType) -> tuple[ModuleType, ...]:
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(importlib.import_module(f"{package.__name__}.{name}") for name in names)

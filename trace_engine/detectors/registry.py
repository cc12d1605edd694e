"""The catalogue: every detector found in this folder and in installed plug-ins."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import lru_cache
from importlib.metadata import entry_points

from trace_engine.detectors.base import Detector, KeyedDetector

ENTRY_POINT_GROUP = "trace_engine.detectors"
_NOT_DETECTORS = {"base", "registry"}


@lru_cache(maxsize=1)
def detector_classes() -> dict[str, type[Detector]]:  # type: ignore[type-arg]
    """Return all detectors by id, sorted. Two with one id raise ``ValueError``."""
    import trace_engine.detectors as folder

    modules = [
        importlib.import_module(f"{folder.__name__}.{info.name}")
        for info in pkgutil.iter_modules(folder.__path__)
        if info.name not in _NOT_DETECTORS and not info.name.startswith("_")
    ]
    found: list[type[Detector]] = [  # type: ignore[type-arg]
        cls
        for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__
        and issubclass(cls, Detector)
        and cls not in (Detector, KeyedDetector)
        and not inspect.isabstract(cls)
    ]
    found += [point.load() for point in entry_points(group=ENTRY_POINT_GROUP)]
    by_id: dict[str, type[Detector]] = {}  # type: ignore[type-arg]
    for cls in found:
        if cls.id in by_id:
            raise ValueError(f"two detectors have the id {cls.id!r}: {by_id[cls.id]}, {cls}")
        by_id[cls.id] = cls
    return dict(sorted(by_id.items()))

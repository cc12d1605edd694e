"""Points of regions, from the engine's own table (the table is tested elsewhere)."""

from __future__ import annotations

import math

from trace_engine.registry.regions import load_regions


def point(code: str) -> tuple[float, float] | None:
    """Return longitude and latitude of a region, or None where it has no point."""
    regions = load_regions()
    index = regions.index(code)
    if index < 0 or math.isnan(float(regions.longitude[index])):
        return None
    return float(regions.longitude[index]), float(regions.latitude[index])

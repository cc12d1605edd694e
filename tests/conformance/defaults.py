"""Values of the default policy, as the plain implementation takes them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from tests.reference.events import day_of
from tests.reference.world import Settings
from trace_engine.detectors.registry import detector_classes
from trace_engine.policy import Policy

DAY_IN_FORCE = day_of("2025-03-01")


@lru_cache(maxsize=1)
def parameters() -> dict[str, dict[str, Any]]:
    """Return every detector's thresholds of the default policy."""
    policy = Policy.load()
    return {
        name: msgspec.structs.asdict(policy.parameters(name, cls.parameters, DAY_IN_FORCE))
        for name, cls in detector_classes().items()
    }


def settings(history_from: str | None = None) -> Settings:
    """Return the values custody needs."""
    general = Policy.load().general(DAY_IN_FORCE)
    of = parameters()
    return Settings(
        clock_skew_minutes=general.clock_skew_minutes,
        deduplication_days=general.deduplication_days,
        history_from=None if history_from is None else day_of(history_from),
        dwell_hours=of["rapid_turnover"]["dwell_hours"],
        unmatched_shipment_days=of["unmatched_shipment"]["days"],
        unmatched_receipt_days=of["unmatched_receipt"]["days"],
    )


@lru_cache(maxsize=1)
def lists() -> dict[str, Any]:
    """Return what the default policy says beside thresholds: quotas by class."""
    return {
        "quotas": {
            quota.class_name: {"per_sale": quota.per_sale, "windows": quota.windows}
            for quota in Policy.load().quotas(DAY_IN_FORCE)
        }
    }

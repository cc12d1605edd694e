"""The catalogue as data: one card a detector, with its parameters as a policy sets them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from trace_engine.detectors.base import Detector
from trace_engine.detectors.registry import detector_classes
from trace_engine.policy import Policy

_EPOCH = dt.date(1970, 1, 1)


def cards(policy: Policy, on: dt.date) -> list[dict[str, Any]]:
    """Return one JSON-ready card a detector, by id, parameters as ``policy`` sets them on a day.

    Fields: ``id``, ``title_zh``, ``title_en``, ``family``, ``evidence``, ``key``, ``rows``,
    ``basis``, ``unit``, ``needs``, ``jurisdiction``, ``false_positives``, ``false_positives_zh`` and
    ``parameters``: each with ``name``, ``value``, ``unit``, ``source``, ``description``, ``description_zh``.
    Raises ``PolicyError`` for a parameter that a detector cannot take.
    """
    day = (on - _EPOCH).days
    return [
        {
            "id": name,
            "title_zh": detector.title_zh,
            "title_en": detector.title_en,
            "family": str(detector.family),
            "evidence": str(detector.evidence),
            "key": detector.key,
            "rows": list(detector.rows),
            "basis": detector.basis,
            "unit": detector.unit,
            "needs": list(detector.needs),
            "jurisdiction": str(detector.jurisdiction),
            "false_positives": detector.false_positives,
            "false_positives_zh": detector.false_positives_zh,
            "parameters": _parameters(policy, detector, day),
        }
        for name, detector in detector_classes().items()
    ]


def _parameters(
    policy: Policy,
    detector: type[Detector],  # type: ignore[type-arg]
    day: int,
) -> list[dict[str, Any]]:
    """Return the parameters of a detector on ``day`` (since 1970), as its struct orders them."""
    schema = msgspec.json.schema(detector.parameters)
    properties = schema["$defs"][detector.parameters.__name__]["properties"]
    values = msgspec.to_builtins(policy.parameters(detector.id, detector.parameters, day))
    found = []
    for name, value in values.items():
        about = properties.get(name, {})
        stated = policy.provenance(detector.id, name, day)
        found.append(
            {
                "name": name,
                "value": value,
                "unit": (stated.unit if stated else "") or about.get("unit", ""),
                "source": stated.source if stated else "default",
                "description": about.get("description", ""),
                "description_zh": about.get("zh", ""),
            }
        )
    return found

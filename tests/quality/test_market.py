"""The aims of detection on a simulated market that nothing was tuned on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trace_engine
from trace_engine.detectors.registry import detector_classes
from trace_engine.ranking import evaluate
from trace_engine.simulate import simulate

SEED = 31


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the evaluation of one market of 50 000 events."""
    folder: Path = tmp_path_factory.mktemp("quality")
    summary = simulate(50_000, SEED, folder)
    # A month of unusual volume takes peers enough to compare with: not in so small a market.
    assert set(summary.cases_left_out) == {"seller_volume"}
    result = trace_engine.score(str(folder / "events"), registry=folder / "registry")
    return evaluate(
        result.findings, result.sellers, folder / "truth", events=result.counts["events"]
    )


def test_every_kind_of_scheme_is_recalled(report: dict[str, Any]) -> None:
    detectors = report["schemes"]["by_detector"]
    assert set(detectors) == set(detector_classes()) - {"seller_volume"}
    assert {name: entry["recall"] for name, entry in detectors.items() if entry["missed"]} == {}


def test_nobody_untouched_is_suspected(report: dict[str, Any]) -> None:
    assert report["events"] > 49_000
    assert report["false_alarms"]["by_detector"] == {}
    assert report["benign"]["planted"] > 50
    assert report["benign"]["hit"] == 0


def test_the_guilty_are_ranked_first(report: dict[str, Any]) -> None:
    assert report["ranking"]["guilty"] >= 10
    assert report["ranking"]["precision_at_k"] >= 0.95


def test_data_quality_does_not_drown_the_rest(report: dict[str, Any]) -> None:
    findings = report["load"]["by_family"]["data_quality"]["count"]
    assert 0 < findings <= 0.005 * report["events"]

"""Every parameter and column stands in the documents."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.ranking.builders import DETECTORS, exposure, findings
from trace_engine.ranking import RankingParameters, rank
from trace_engine.sampling import SAMPLING_PLAN, SamplingParameters

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    "page,kind", [("ranking.md", RankingParameters), ("sampling.md", SamplingParameters)]
)
def test_every_parameter_stands_in_its_page(page, kind):
    text = (DOCS / page).read_text(encoding="utf-8")
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}`" in text, field.name


def test_every_column_of_the_ranking_stands_in_its_page():
    text = (DOCS / "ranking.md").read_text(encoding="utf-8")
    for name in rank(findings(), exposure({"A": 1}), detectors=DETECTORS).column_names:
        if name.startswith("contribution_"):
            assert f"`{name.removeprefix('contribution_')}`" in text, name
        elif not name.startswith("n_"):
            assert f"`{name}`" in text, name


def test_every_column_of_the_plan_stands_in_its_page():
    text = (DOCS / "sampling.md").read_text(encoding="utf-8")
    for name in SAMPLING_PLAN.names:
        assert f"`{name}`" in text, name

from __future__ import annotations

from pathlib import Path

import pytest

from trace_engine.cli.reference import commands_in, filled, help_page
from trace_engine.cli.root import COMMANDS
from trace_engine.reports import manifest, output

DOCS = Path(__file__).parents[2] / "docs"


def test_printed_help_is_current() -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    assert commands_in(page) == ["", *COMMANDS]
    assert page == filled(page), "run: python -m trace_engine.cli.reference docs/cli.md"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_complete_in_chinese(command: str) -> None:
    page = help_page(command, "zh")
    for word in ("Usage", "Options", "[default", "[required]", "Show this"):
        assert word not in page
    options = page.split("选项:")[1].split("命令:")[0]
    described = [line for line in options.splitlines() if line.startswith("  -")]
    assert described


def test_every_output_file_is_described() -> None:
    page = (DOCS / "outputs.md").read_text("utf-8")
    for name in (*output.FILES, manifest.MANIFEST):
        assert f"| `{name}` |" in page


def test_every_column_of_findings_and_rejects_is_described() -> None:
    from trace_engine.events.findings import FINDINGS, REJECTS

    page = (DOCS / "outputs.md").read_text("utf-8")
    for name in (*FINDINGS.names, *REJECTS.names):
        assert f"`{name}`" in page

"""Commands that read an output folder."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.cli.conftest import Run
from tests.reports.made import seller
from trace_engine.cli.bilingual import set_language


def test_version(cli: Run) -> None:
    from trace_engine import __version__

    assert cli("version") == (0, f"trace-engine {__version__}\n", "")
    assert "numba " in cli("version", "--verbose").out


def test_verify(cli: Run, folder: Path) -> None:
    done = cli("verify", folder)
    assert done.code == 0
    assert done.out.startswith("unchanged: 9 files, end of chain ")
    (folder / "sellers.csv").write_text("x")
    done = cli("verify", folder, "--lang", "zh")
    assert done.code == 1
    assert "sellers.csv: 内容被改动" in done.err


def test_rank(cli: Run, folder: Path) -> None:
    done = cli("rank", folder, "--top", "3")
    assert done.code == 0
    assert "first 3 of 60 sellers" in done.out
    first = pq.read_table(folder / "sellers.parquet").slice(0, 1).to_pylist()[0]
    assert first["enterprise_id"] in done.out
    rows = json.loads(cli("rank", folder, "--top", "4", "--json").out)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    tiers = {row["tier"] for row in json.loads(cli("rank", folder, "--tier", "A", "--json").out)}
    assert tiers == {"A"}


def test_explain_finding(cli: Run, folder: Path) -> None:
    row = pq.read_table(folder / "findings.parquet").slice(7, 1).to_pylist()[0]
    done = cli("explain", folder, "--finding", row["finding_id"])
    assert done.code == 0
    assert row["explanation_en"] in done.out
    assert "●───▶" in done.out
    assert (
        "追溯码流转" in cli("explain", folder, "--finding", row["finding_id"], "--lang", "zh").out
    )
    done = cli("explain", folder, "--finding", "nothing")
    assert (done.code, done.err) == (2, "error: no finding nothing in this folder\n")


def test_explain_seller(cli: Run, folder: Path) -> None:
    done = cli("explain", folder, "--seller", seller(9))
    assert done.code == 0
    assert "Parts of the score" in done.out
    assert cli("explain", folder, "--seller", "x").code == 2


def test_explain_code_whose_inputs_are_gone_shows_the_path_of_the_finding(
    cli: Run, folder: Path
) -> None:
    code = f"8{7:019d}"
    done = cli("explain", folder, "--code", code)
    assert done.code == 0
    assert "input files are gone (/data/a.csv)" in done.err
    assert f"Trace code {code}" in done.out
    assert "●───▶" in done.out
    assert "f00007" in done.out
    assert cli("explain", folder, "--code", "81234567890123456789").code == 2


def test_plan(cli: Run, folder: Path) -> None:
    done = cli("plan", folder, "--budget", "10", "--seed", "3")
    assert done.code == 0, done.err
    assert "samples (budget 10, seed 3)" in done.out
    lines = (folder / "sampling_plan.csv").read_text("utf-8-sig").splitlines()
    assert lines[0].startswith("sequence,arm,")
    assert len(lines) > 2
    assert cli("verify", folder).code == 0
    again = cli("plan", folder, "--budget", "10", "--seed", "3")
    assert again.out == done.out
    assert (folder / "sampling_plan.csv").read_text("utf-8-sig").splitlines() == lines


def test_terminal_control_sequences_in_data_are_taken_out() -> None:
    from trace_engine.cli.show import lines, plain

    set_language("en")
    assert plain("\x1b[31mred\x07") == " [31mred "
    assert lines("a\nb\x1b") == "a\nb "


def test_catalog(cli: Run) -> None:
    from trace_engine.detectors.registry import detector_classes

    done = cli("catalog", "--json")
    assert done.code == 0
    entries = {entry["id"]: entry for entry in json.loads(done.out)}
    assert set(entries) == set(detector_classes())
    for entry in entries.values():
        for parameter in entry["parameters"]:
            assert parameter["source"], (entry["id"], parameter)
            assert parameter["description"], (entry["id"], parameter)
            assert parameter["description_zh"], (entry["id"], parameter)
    name = next(iter(entries))
    text = cli("catalog", name, "--lang", "zh").out
    assert entries[name]["title_zh"] in text
    assert "来源" in text
    done = cli("catalog", "--policy", "no-such-policy")
    assert (done.code, done.out) == (2, "")
    assert "no-such-policy" in done.err


def test_doctor(cli: Run) -> None:
    done = cli("doctor")
    assert done.code == 0
    assert "✓ pyarrow: " in done.out
    assert "✗" not in done.out

"""``trace``: from a state and from an output folder, in every format, and wrong input in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run
from trace_engine.cli import run
from trace_engine.reports.tables import FORMULA_STARTS
from trace_engine.simulate import simulate

CODE = "8123456{:013d}"
HEADER = "event_time,event_type,code,actor_id,from_id,to_id,batch_no,drug_id\n"
EVIL = "=HYPERLINK(1)"


def lines_of(code: int, batch: str = "B1", drug: str = "8123456") -> str:
    name = CODE.format(code)
    return (
        f"2025-03-01 08:00:00,commissioning,{name},M,,,{batch},{drug}\n"
        f"2025-03-02 08:00:00,sale_shipment,{name},M,,{EVIL},{batch},{drug}\n"
        f"2025-03-03 08:00:00,purchase_receipt,{name},{EVIL},M,,{batch},{drug}\n"
    )


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``events.csv``, ``out`` and ``state``."""
    folder = tmp_path_factory.mktemp("trace")
    text = HEADER + lines_of(1) + lines_of(2) + lines_of(3, "B2") + lines_of(4, "B2", "7000001")
    text += f"2025-03-05 08:00:00,retail_sale,{CODE.format(1)},{EVIL},,,B1,8123456\n"
    (folder / "events.csv").write_text(text)
    state = str(folder / "state")
    done = run(
        ["score", str(folder / "events.csv"), "--out", str(folder / "out"), "--state", state, "-q"]
    )
    assert done == 0
    return folder


@pytest.mark.parametrize("source", ["state", "out"])
def test_a_batch_from_a_state_and_from_an_output_folder(
    cli: Run, scored: Path, source: str
) -> None:
    done = cli("trace", scored / source, "--batch", "B1", "--format", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["codes"], found["places"]["held"], found["places"]["sold"]) == (2, 1, 1)
    assert found["origins"][0]["enterprise_id"] == "M"
    assert [f["codes"] for f in found["flows"]] == [2]
    earlier = cli("trace", scored / source, "--batch", "B1", "--to", "2025-03-02")
    assert "in transit: 2" in earlier.out


def test_texts_speak_both_languages(cli: Run, scored: Path) -> None:
    for what in (("--batch", "B1"), ("--code", CODE.format(1)), ("--enterprise", "M")):
        english = cli("trace", scored / "state", *what)
        chinese = cli("trace", scored / "state", *what, "--lang", "zh")
        assert english.code == chinese.code == 0
        assert english.out != chinese.out
        assert "M" in chinese.out


def test_directions_tell_their_half(cli: Run, scored: Path) -> None:
    ask = ("trace", scored / "state", "--batch", "B1", "--format", "json", "--direction")
    forward, backward = (json.loads(cli(*ask, d).out) for d in ("forward", "backward"))
    assert "origins" not in forward
    assert "enterprises" not in backward
    assert forward["enterprises"]
    assert backward["origins"]


def test_csv_is_safe_for_a_spreadsheet(cli: Run, scored: Path) -> None:
    for what in (("--batch", "B1"), ("--enterprise", "M"), ("--code", CODE.format(1))):
        done = cli("trace", scored / "state", *what, "--format", "csv")
        assert done.out.startswith("\ufeff")
        cells = [c for line in csv.reader(io.StringIO(done.out[1:])) for c in line]
        assert "'" + EVIL in cells
        assert not [c for c in cells if c.startswith(FORMULA_STARTS)]


def test_a_drawing(cli: Run, scored: Path) -> None:
    for what in (("--batch", "B1"), ("--enterprise", "M")):
        done = cli("trace", scored / "state", *what, "--format", "mermaid")
        assert done.out.startswith("graph LR\n")
        assert "-->|sale" in done.out


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ((), "exactly one of"),
        (("--code", "1", "--batch", "B1"), "exactly one of"),
        (("--batch", "B11"), "near names: B1"),
        (("--batch", "B2"), "of 2 drugs"),
        (("--batch", "B1", "--drug", "7000001"), "has no batch B1"),
        (("--code", CODE.format(9)), "no event of trace code"),
        (("--enterprise", "nobody"), "no enterprise nobody"),
        (("--code", CODE.format(1), "--to", "2025-03-01"), "goes without"),
        (("--batch", "B1", "--from", "2025-13-01"), "2025-13-01"),
        (("--batch", "B1", "--from", "2025-03-02", "--to", "2025-03-01"), "is before"),
    ],
)
def test_wrong_questions_are_one_line(
    cli: Run, scored: Path, question: tuple[str, ...], words: str
) -> None:
    done = cli("trace", scored / "state", *question)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert words in done.err


def test_wrong_sources_are_one_line(cli: Run, scored: Path, tmp_path: Path) -> None:
    done = cli("trace", tmp_path, "--batch", "B1")
    assert done.code == 2
    assert "neither a state" in done.err
    (tmp_path / "state.json").write_text("{}")
    done = cli("trace", tmp_path, "--batch", "B1")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("x")
    done = cli("score", scored / "events.csv", "--out", tmp_path / "o", "--state", full, "-q")
    assert done.code == 2
    assert "holds no saved state" in done.err
    assert not (tmp_path / "o").exists()


def test_a_state_finds_its_registry_again(cli: Run, tmp_path: Path) -> None:
    market = tmp_path / "market"
    simulate(5000, 3, market)
    registry = market / "registry"
    done = cli(
        "score", market / "events", "--registry", registry, "--out", tmp_path / "out",
        "--state", tmp_path / "state", "-q",
    )  # fmt: skip
    assert done.code in (0, 1)
    party = pq.read_table(tmp_path / "out" / "sellers.parquet").slice(0, 1).to_pylist()[0]
    ask = ("trace", tmp_path / "state", "--enterprise", party["enterprise_id"])
    told = cli(*ask)
    assert told.code == 0, told.err
    assert party["name"] in told.out
    registry.rename(market / "moved")
    done = cli(*ask)
    assert done.code == 2
    assert "is gone" in done.err
    assert cli(*ask, "--registry", market / "moved").out == told.out

"""The whole way through the real engine, on a small market."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run
from trace_engine.cli import run
from trace_engine.reports import manifest, output

EVENTS = 20_000


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of ``demo``; the market lies in its folder ``market``."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert run(["demo", "--events", str(EVENTS), "--seed", "3", "--out", str(folder)]) == 0
    return folder


def test_demo_writes_everything(demo: Path) -> None:
    assert {path.name for path in demo.iterdir()} == {*output.FILES, "manifest.json", "market"}
    assert manifest.verify(demo) == []
    head = manifest.read(demo)["head"]
    assert head["counts"]["rows"] >= EVENTS * 0.9
    assert head["counts"]["rejects"] == 0
    assert head["findings"] > 0
    assert head["registry"] != "none"
    for entry in head["inputs"]:
        assert entry["sha256"] == manifest.file_sha256(Path(entry["path"]))


def test_a_second_demo_replaces_the_first(cli: Run, tmp_path: Path) -> None:
    for _ in range(2):
        done = cli("demo", "--events", "5000", "--out", tmp_path / "d")
        assert done.code == 0, done.err
    assert "compare with the truth" in done.out
    assert "report.html in a browser" in done.out
    assert cli("verify", tmp_path / "d").code == 0


def test_score_gives_the_same_bytes_as_the_demo(cli: Run, demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    done = cli(
        "score", demo / "market" / "events", "--registry", demo / "market" / "registry",
        "--workers", "1", "--seed", "3", "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "rows read" in done.out
    assert "highest scores" in done.out
    assert str(out) in done.out
    for name in output.FILES:
        assert (out / name).read_bytes() == (demo / name).read_bytes(), name


def test_report_is_chinese_unless_english_is_asked_for(
    cli: Run, demo: Path, tmp_path: Path
) -> None:
    assert '<html lang="zh-CN">' in (demo / "report.html").read_text("utf-8")
    market = demo / "market"
    done = cli("score", market / "events", "--lang", "en", "--out", tmp_path / "en")
    assert done.code == 0
    assert '<html lang="en">' in (tmp_path / "en" / "report.html").read_text("utf-8")
    assert "not evaluated" in done.out  # nothing was said of registered drugs


def test_occupied_folder_is_refused_before_any_work(cli: Run, demo: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    done = cli("score", demo / "market" / "events", "--out", tmp_path)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert "mine.txt" in done.err


def test_rows_that_are_no_events_are_counted_and_named(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(
        "code,event_type,event_time,actor_id,to_id\n"
        "81234567890123456789,201,2025-03-01,A,B\n"
        ",201,2025-03-01,A,B\n"
        "81234567890123456789,201,2025-03-01,A,B\n"
    )
    done = cli("score", path, "--out", tmp_path / "out")
    assert done.code == 1
    assert "1 rows were rejected" in done.err
    assert "rejects.parquet" in done.err
    assert manifest.read(tmp_path / "out")["head"]["counts"] == {
        "rows": 3, "events": 1, "duplicates": 1, "rejects": 1,
    }  # fmt: skip
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert [(row["row"], row["reason"]) for row in rejects] == [(2, "missing_code")]


def test_wrong_entries_of_the_registry_are_told_and_stop_nothing(cli: Run, tmp_path: Path) -> None:
    events, registry = tmp_path / "in.csv", tmp_path / "registry"
    events.write_text(
        "code,event_type,event_time,actor_id,to_id\n81234567890123456789,201,2025-03-01,A,B\n"
    )
    registry.mkdir()
    (registry / "enterprises.csv").write_text(
        "enterprise_id,type,region\n" + "".join(f"{who},wholesaler,999999\n" for who in "ABCDE")
    )
    out = tmp_path / "out"
    done = cli("score", events, "--registry", registry, "--out", out)
    assert done.code == 0
    assert "5 entries of the registry are wrong or doubtful" in done.out
    assert done.out.count("enterprises.csv, row ") == 3
    told = manifest.read(out)["head"]["registry_problems"]
    assert told["count"] == len(told["first"]) == 5
    assert told["first"][0]["zh"].startswith("enterprises.csv 第1行 region")
    zh = cli("score", events, "--registry", registry, "--out", out, "--force", "--lang", "zh")
    assert "登记数据有 5 处有误或可疑" in zh.out
    assert "每万条事件" in zh.out


@pytest.mark.parametrize(
    "name", ["truncated.parquet", "empty.csv", "nowhere.csv", "no_columns.csv"]
)
def test_unusable_input_is_one_line(cli: Run, demo: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "truncated.parquet":
        source = next((demo / "market" / "events").glob("*.parquet"))
        path.write_bytes(source.read_bytes()[:-1000])
    elif name == "empty.csv":
        path.write_bytes(b"")
    elif name == "no_columns.csv":
        path.write_text("a,b\n1,2\n")
    done = cli("score", path, "--out", tmp_path / "out")
    assert done.code == 2
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert name in errors[0]
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_wrong_policy_and_registry_are_one_line(cli: Run, demo: Path, tmp_path: Path) -> None:
    events = demo / "market" / "events"
    policy = tmp_path / "p.toml"
    policy.write_text('name = "x"\n[general]\nnonsense = 5\n')
    done = cli("score", events, "--policy", policy, "--out", tmp_path / "out")
    assert done.code == 2
    assert "p.toml" in done.err
    done = cli("score", events, "--registry", tmp_path / "none", "--out", tmp_path / "out")
    assert done.code == 2
    assert "none" in done.err
    assert not (tmp_path / "out").exists()


def test_evaluate_finds_what_was_planted(cli: Run, demo: Path) -> None:
    done = cli("evaluate", demo, "--truth", demo / "market" / "truth", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["findings"] == manifest.read(demo)["head"]["findings"]
    assert cli("evaluate", demo, "--truth", demo / "market" / "truth").code == 0
    done = cli("evaluate", demo, "--truth", demo)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1


def test_explain_code_looks_into_the_inputs(cli: Run, demo: Path) -> None:
    events = pq.read_table(demo / "market" / "events", columns=["code", "event_id", "event_type"])
    quiet = set(events.column("code").to_pylist())
    found = pq.read_table(demo / "findings.parquet", columns=["codes"]).column("codes").to_pylist()
    quiet -= {code for codes in found for code in codes}
    code = min(quiet)
    rows = [row for row in events.to_pylist() if row["code"] == code]
    done = cli("explain", demo, "--code", code)
    assert done.code == 0, done.err
    ids = {row["event_id"] for row in rows}
    drawn = [line for line in done.out.splitlines() if line[2:6].isdigit()]
    assert len(drawn) == len(ids)


def test_explained_path_is_the_same_as_in_the_finding(demo: Path) -> None:
    from trace_engine.cli.scan import events_of_code

    findings = pq.read_table(demo / "findings.parquet").to_pylist()
    row = next(
        row for row in findings if row["detector"] == "repeated_transfer" and row["evidence"]
    )
    path = json.loads(row["evidence"])["path"]
    scanned = events_of_code(demo, row["code"])
    assert scanned is not None
    assert scanned[: len(path)] == path


def test_plan_by_command_is_the_plan_of_score(cli: Run, demo: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (*output.FILES, "manifest.json"):
        shutil.copy(demo / name, copy / name)
    done = cli("plan", copy, "--budget", "100", "--seed", "3")
    assert done.code == 0, done.err
    assert (copy / output.PLAN).read_bytes() == (demo / output.PLAN).read_bytes()


def test_warmup(cli: Run) -> None:
    done = cli("warmup")
    assert done.code == 0
    assert "kernels ready" in done.out


def test_a_gs1_code_is_found_however_it_is_written(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(
        "code,event_type,event_time,actor_id,to_id\n"
        "(01)06901234567892(21)ABC123,201,2025-03-01,A,B\n"
        "010690123456789221ABC123\x1d17260101,102,2025-03-02,B,\n"
    )
    assert cli("score", path, "--out", tmp_path / "out").code == 0
    for code in ("010690123456789221ABC123", "(01)06901234567892(21)ABC123"):
        done = cli("explain", tmp_path / "out", "--code", code, "--lang", "en")
        assert done.code == 0, done.err
        assert "2025-03-01" in done.out
        assert "2025-03-02" in done.out

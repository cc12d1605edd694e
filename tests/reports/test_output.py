from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import networkx as nx
import pyarrow.parquet as pq
import pytest

from tests.reports.made import HOSTILE, MadeResult, make, seller
from trace_engine.events.findings import FINDINGS, GRAPH_EDGES, REJECTS
from trace_engine.reports import graphml, manifest, output
from trace_engine.reports.errors import ConservationError, OutputError


@pytest.fixture
def folder(made: MadeResult, tmp_path: Path) -> Path:
    return output.write(made, tmp_path / "out")


def test_every_file_of_the_contract_is_there_and_nothing_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "findings.parquet", "sellers.parquet", "sellers.csv", "sampling_plan.csv",
        "supply_graph.parquet", "supply_graph.graphml", "rejects.parquet", "coverage.json",
        "report.html", "manifest.json",
    }  # fmt: skip
    assert pq.read_schema(folder / "findings.parquet").equals(FINDINGS)
    assert pq.read_schema(folder / "supply_graph.parquet").equals(GRAPH_EDGES)
    assert pq.read_schema(folder / "rejects.parquet").equals(REJECTS)


def test_manifest_says_what_went_in(folder: Path) -> None:
    head = manifest.read(folder)["head"]
    assert head["counts"] == {"rows": 10_005, "events": 10_000, "duplicates": 3, "rejects": 2}
    assert head["inputs"] == [
        {"path": "/data/a.csv", "bytes": 12345, "sha256": "cd" * 32, "rows": 10_005}
    ]
    assert head["policy"] == "2026.1"
    assert head["plan"] == {"budget": 100, "seed": 0, "samples": 60}


def test_the_same_result_gives_the_same_bytes(made: MadeResult, tmp_path: Path) -> None:
    first = output.write(made, tmp_path / "one")
    second = output.write(make(), tmp_path / "two")
    for name in output.FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    one, two = manifest.read(first), manifest.read(second)
    assert one["outputs"] == two["outputs"]


def test_untouched_folder_verifies(folder: Path) -> None:
    assert manifest.verify(folder) == []


@pytest.mark.parametrize("name", output.FILES)
def test_any_changed_file_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert [(d.kind, d.name) for d in manifest.verify(folder)] == [("changed", name)]


def test_missing_and_added_files_are_found(folder: Path) -> None:
    (folder / "sellers.csv").rename(folder / "sellers2.csv")
    found = {(d.kind, d.name) for d in manifest.verify(folder)}
    assert found == {("missing", "sellers.csv"), ("added", "sellers2.csv")}


def rewrite(folder: Path, change: object) -> list[str]:
    path = folder / manifest.MANIFEST
    record = json.loads(path.read_text())
    change(record)  # type: ignore[operator]
    path.write_text(json.dumps(record))
    return [d.kind for d in manifest.verify(folder)]


def test_a_changed_file_with_its_hash_changed_too_breaks_the_chain(folder: Path) -> None:
    (folder / "coverage.json").write_text("{}")
    digest = manifest.file_sha256(folder / "coverage.json")

    def forge(record: dict) -> None:  # type: ignore[type-arg]
        record["outputs"][0]["sha256"] = digest

    assert rewrite(folder, forge) == ["chain"]


def test_changes_to_the_head_are_found(folder: Path) -> None:
    def policy(record: dict) -> None:  # type: ignore[type-arg]
        record["head"]["policy"] = "other"

    assert rewrite(folder, policy) == ["head"]


def test_counts_that_do_not_add_up_are_found(folder: Path) -> None:
    def lose_rows(record: dict) -> None:  # type: ignore[type-arg]
        record["head"]["counts"]["rows"] += 1

    assert set(rewrite(folder, lose_rows)) == {"head", "counts"}


def test_a_removed_entry_breaks_the_chain(folder: Path) -> None:
    def remove(record: dict) -> None:  # type: ignore[type-arg]
        del record["outputs"][2]

    assert set(rewrite(folder, remove)) == {"chain", "added"}


def test_a_manifest_cannot_lead_outside_its_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")

    def escape(record: dict) -> None:  # type: ignore[type-arg]
        record["outputs"][0]["name"] = "../secret"

    assert "chain" in rewrite(folder, escape)


def test_unreadable_manifest_is_one_error(folder: Path, tmp_path: Path) -> None:
    for text in ("", "[]", '{"format": "other"}', "\x00"):
        (folder / manifest.MANIFEST).write_text(text)
        with pytest.raises(OutputError, match="unreadable manifest"):
            manifest.verify(folder)
    with pytest.raises(OutputError, match="no manifest"):
        manifest.verify(tmp_path / "nothing")


def test_lost_rows_are_never_written(made: MadeResult, tmp_path: Path) -> None:
    broken = replace(made, counts={**made.counts, "rows": 10_006})
    with pytest.raises(ConservationError, match="10006 read"):
        output.write(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(made: MadeResult, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        output.write(made, tmp_path)
    output.write(made, tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_file_in_the_way_is_refused(made: MadeResult, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        output.write(made, tmp_path / "out", force=True)


def test_an_earlier_output_is_written_over(made: MadeResult, folder: Path) -> None:
    (folder / output.PARTIAL).mkdir()  # left by a run that died
    (folder / output.PARTIAL / "x").write_text("")
    output.write(make(findings=30), folder)
    assert manifest.verify(folder) == []
    assert pq.read_metadata(folder / "findings.parquet").num_rows == 30


def test_a_failure_leaves_the_earlier_output_whole(
    made: MadeResult, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr(output.html, "render", fail)
    with pytest.raises(OSError, match="No space"):
        output.write(make(findings=30), folder)
    assert manifest.verify(folder) == []
    assert not (folder / output.PARTIAL).exists()


def test_a_new_plan_renews_its_own_entry_only(made: MadeResult, folder: Path) -> None:
    (folder / "sellers.csv").write_text("changed by hand")
    output.replace_plan(folder, made.plan(7), 7, 3)
    record = manifest.read(folder)
    assert record["head"]["plan"] == {"budget": 7, "seed": 3, "samples": 7}
    assert [(d.kind, d.name) for d in manifest.verify(folder)] == [("changed", "sellers.csv")]


def test_a_new_plan_is_refused_where_the_head_was_changed(made: MadeResult, folder: Path) -> None:
    def policy(record: dict) -> None:  # type: ignore[type-arg]
        record["head"]["policy"] = "other"

    rewrite(folder, policy)
    with pytest.raises(OutputError, match="head was changed"):
        output.replace_plan(folder, made.plan(7), 7, 3)


def test_csv_cells_are_harmless(folder: Path) -> None:
    text = (folder / "sampling_plan.csv").read_text("utf-8-sig")
    assert "'=cmd|" in text
    assert ",=cmd" not in text
    assert "\"'=HYPERLINK" in (folder / "sellers.csv").read_text("utf-8-sig")


def test_graph_opens_in_networkx(folder: Path, made: MadeResult) -> None:
    graph = nx.read_graphml(folder / "supply_graph.graphml", force_multigraph=True)
    assert graph.number_of_edges() == made.graph_edges.num_rows
    assert graph.graph["edges_left_out"] == 0
    assert graph.nodes[seller(1)]["name"] == HOSTILE
    one = {d["drug_id"]: d for d in graph.get_edge_data(seller(0), seller(1)).values()}["8100000"]
    assert one["codes"] == 5


def test_only_the_strongest_edges_are_drawn(made: MadeResult, tmp_path: Path) -> None:
    path = tmp_path / "g.graphml"
    kept = graphml.strongest(made.graph_edges, 10)
    codes = sorted(made.graph_edges.column("codes").to_pylist(), reverse=True)
    assert kept.column("codes").to_pylist() == codes[:10]
    assert graphml.write(kept, made.sellers, path) == 0


def test_control_characters_do_not_break_graphml(tmp_path: Path, made: MadeResult) -> None:
    edges = made.graph_edges.slice(0, 1).to_pylist()
    edges[0]["drug_id"] = "a\x00b\x1bc\ufffe"
    path = tmp_path / "g.graphml"
    graphml.write(type(made.graph_edges).from_pylist(edges, GRAPH_EDGES), made.sellers, path)
    ((_, _, data),) = nx.read_graphml(path, force_multigraph=True).edges(data=True)
    assert data["drug_id"] == "abc"


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        output.check_folder(tmp_path / "file" / "out")
    with pytest.raises(FileNotFoundError):  # what /proc says, even to root
        output.check_folder(Path("/proc/nowhere/out"))


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    output.check_folder(tmp_path / "a" / "b")
    output.check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    budgets = (5, 10, 20, 40)
    with ThreadPoolExecutor(len(budgets)) as pool:
        list(pool.map(lambda budget: output.write(make(), folder, budget=budget), budgets))
    assert manifest.verify(folder) == []
    assert {path.name for path in folder.iterdir()} == {*output.FILES, manifest.MANIFEST}

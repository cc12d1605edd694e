"""The output folder of ``score``: every file of the contract, written whole or not at all.

Files are first written into a hidden folder beside their places and then renamed into them, the
manifest last: a reader sees the old set or the new one, and a run that died leaves a folder whose
``verify`` says so.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine import __version__
from trace_engine.reports import graphml, html, manifest, tables
from trace_engine.reports.errors import OutputError
from trace_engine.reports.view import Scored

PARTIAL = ".trace-engine-partial"
DEFAULT_BUDGET = 100  # samples in the plan that score writes by itself
LISTED_PROBLEMS = 100  # of the registry, in the manifest
PLAN = "sampling_plan.csv"
FILES = (
    "coverage.json",
    "findings.parquet",
    "rejects.parquet",
    "report.html",
    PLAN,
    "sellers.csv",
    "sellers.parquet",
    "supply_graph.graphml",
    "supply_graph.parquet",
)


def check_folder(folder: Path, *, force: bool = False) -> None:
    """Raise :class:`OutputError` or :class:`OSError` unless ``folder`` may be written to.

    A folder that does not exist, is empty, or holds an earlier output of ours may be; any other
    only with ``force`` (nothing in it is removed, files of the same names are replaced).
    """
    _check_contents(folder, force=force)
    _try_to_write(folder)


def _check_contents(folder: Path, *, force: bool) -> None:
    if folder.is_symlink() and not folder.exists():
        raise OutputError(f"{folder}：链接指向的位置不存在", f"{folder}: is a broken link")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(
            f"{folder}：需要文件夹，得到的是文件", f"{folder}: is a file, expected a folder"
        )
    ours = (folder / manifest.MANIFEST).is_file() and _is_ours(folder)
    others = [path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL)]
    if others and not ours and not force:
        raise OutputError(
            f"{folder}：文件夹非空且不是 trace-engine 的结果（含 {sorted(others)[0]}）；"
            "请换一个文件夹，或加 --force",
            f"{folder}: is not empty and holds no earlier output of trace-engine "
            f"(found {sorted(others)[0]}); choose another folder or add --force",
        )


def _try_to_write(folder: Path) -> None:
    """Make ``folder`` and a file's place in it, and take them away again.

    Raises :class:`OSError` where that is not allowed: before the run, not at its end. What a
    permission bit says is not asked: it is not the whole truth (read-only disks, quotas, root).
    """
    made: list[Path] = []
    try:
        for place in (*reversed(folder.parents), folder, folder / f"{PARTIAL}-{os.getpid()}"):
            if not place.exists():
                place.mkdir(exist_ok=True)
                made.append(place)
    finally:
        for place in reversed(made):
            with suppress(OSError):  # somebody else's run may already use the folder
                place.rmdir()


def _is_ours(folder: Path) -> bool:
    try:
        manifest.read(folder)
    except OutputError:
        return False
    return True


def policy_version(policy: Any) -> str:
    """Return name, version and fingerprint of a policy as one text; empty if it has none."""
    return str(getattr(policy, "version", "") or "")


def head(result: Scored, plan: Mapping[str, int]) -> dict[str, Any]:
    """Return the hashed part of the manifest: what the outputs were made from."""
    problems = result.registry.problems if result.registry is not None else []
    return {
        "code_version": __version__,
        "policy": policy_version(result.policy),
        "registry": str(getattr(result.registry, "content_hash", "none")),
        "registry_problems": {
            "count": len(problems),
            "first": [{"zh": p.zh, "en": str(p)} for p in problems[:LISTED_PROBLEMS]],
        },
        "inputs": [
            {name: entry[name] for name in ("path", "bytes", "sha256", "rows")}
            for entry in result.inputs
        ],
        "counts": {
            name: int(result.counts[name]) for name in ("rows", "events", "duplicates", "rejects")
        },
        "findings": int(result.findings.num_rows),
        "sellers": int(result.sellers.num_rows),
        "plan": dict(plan),
    }


def write(
    result: Scored,
    folder: str | Path,
    lang: str = "zh",
    *,
    force: bool = False,
    budget: int = DEFAULT_BUDGET,
    seed: int = 0,
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Write all output files and return the folder.

    ``budget`` samples are planned with ``seed``. ``run`` is added to the manifest outside the hash
    chain (when, how long, on what). The same result gives the same bytes in every file but
    ``manifest.json``. Raises :class:`OutputError` where the folder is not ours to write,
    :class:`ConservationError` where rows are not conserved.
    """
    folder = Path(folder)
    _check_contents(folder, force=force)
    manifest.check_conservation(result.counts)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder) as partial:
        _check_contents(folder, force=force)  # another run may have been first
        plan = result.plan(budget, seed)
        _write_tables(result, plan, partial)
        left_out = graphml.write(result.graph_edges, result.sellers, partial / FILES[7])
        _write_json(result.coverage, partial / "coverage.json")
        page = html.render(result, lang, policy_version(result.policy))
        (partial / "report.html").write_text(page, "utf-8", newline="\n")
        facts = head(result, {"budget": budget, "seed": seed, "samples": plan.num_rows})
        facts["graphml_edges_left_out"] = left_out
        record = manifest.build(facts, partial, FILES, _run_facts(result, run))
        _write_json(record, partial / manifest.MANIFEST, sort=False)
        for name in (*FILES, manifest.MANIFEST):
            (partial / name).replace(folder / name)
    return folder


@contextmanager
def _only_writer(folder: Path) -> Iterator[Path]:
    """Give an empty folder inside ``folder``, removed at the end, to one process at a time.

    A second run into the same folder waits: were their files mixed, no manifest would fit them.
    The lock is on the folder itself and dies with its process.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        partial = folder / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(handle)


def _write_tables(result: Scored, plan: pa.Table, folder: Path) -> None:
    tables.write_parquet(result.findings, folder / "findings.parquet")
    tables.write_parquet(result.sellers, folder / "sellers.parquet")
    tables.write_parquet(result.rejects, folder / "rejects.parquet")
    tables.write_parquet(result.graph_edges, folder / "supply_graph.parquet")
    tables.write_csv(result.sellers, folder / "sellers.csv")
    tables.write_csv(plan, folder / PLAN)


def _write_json(value: Any, path: Path, *, sort: bool = True) -> None:
    data = msgspec.json.encode(value, order="sorted" if sort else None)
    path.write_bytes(msgspec.json.format(data, indent=2) + b"\n")


def _run_facts(result: Scored, run: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_by_stage": {k: round(v, 3) for k, v in result.seconds_by_stage.items()},
        **(run or {}),
    }


def replace_plan(folder: Path, plan: pa.Table, budget: int, seed: int) -> Path:
    """Replace the plan of an output folder and renew its manifest; return the plan's path.

    Only the plan's own entry is hashed anew: whatever else was changed in the folder stays
    visible to ``verify``. A manifest whose head was changed is refused.
    """
    record = manifest.read(folder)
    if manifest.head_hash(record["head"]) != record.get("head_hash"):
        raise OutputError(
            f"{folder}：清单头部被改动，拒绝重写", f"{folder}: the manifest's head was changed"
        )
    with _only_writer(folder) as partial:
        tables.write_csv(plan, partial / PLAN)
        facts = {"budget": budget, "seed": seed, "samples": plan.num_rows}
        record = manifest.renewed(record, partial / PLAN, {"plan": facts})
        _write_json(record, partial / manifest.MANIFEST, sort=False)
        for name in (PLAN, manifest.MANIFEST):
            (partial / name).replace(folder / name)
    return folder / PLAN


def plan_day(sellers: pa.Table) -> date:
    """Return the day a plan counts from: that of the last event, 1970-01-01 if there is none.

    Taken from the data, so that the same data give the same plan on any day.
    """
    last: datetime | None = pc.max(sellers.column("last_time")).as_py()
    return date(1970, 1, 1) if last is None else last.date()

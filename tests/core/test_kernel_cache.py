"""Compiled kernels are kept on disk; whatever is wrong with the disk, the program runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODULE = """
from trace_engine.core.kernel import kernel

@kernel
def twice(number):
    return 2 * number
"""
RUN = """
import json, resource, sys, warnings
if {full}:  # every write fails, as on a full disk or one that can only be read
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from plugin import twice
    answers = [twice(21), twice(1.5)]
from trace_engine.core.kernel_cache import is_writable
hits = sum(twice.stats.cache_hits.values())
told = [str(one.message) for one in told]
sys.stdout.write(json.dumps([answers, hits, told, is_writable()]))
"""


def run(folder: Path, cache: Path, *, full: bool = False) -> Any:
    """Return answers of a kernel, how many signatures came from disk, warnings, "is writable"."""
    (folder / "plugin.py").write_text(MODULE)
    environ = {**os.environ, "TRACE_ENGINE_CACHE_DIR": str(cache), "PYTHONPATH": f"{ROOT}:{folder}"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", RUN.format(full=full)],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kernels_are_kept(tmp_path: Path) -> None:
    assert run(tmp_path, tmp_path / "cache") == [[42, 3.0], 0, [], True]
    assert run(tmp_path, tmp_path / "cache") == [[42, 3.0], 2, [], True]


def test_a_folder_that_can_only_be_read_is_read(tmp_path: Path) -> None:
    run(tmp_path, tmp_path / "cache")
    answers, hits, told, _ = run(tmp_path, tmp_path / "cache", full=True)
    assert (answers, hits, told) == ([42, 3.0], 2, [])


def test_where_nothing_can_be_kept_kernels_are_compiled_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for cache, full in ((tmp_path / "cache", True), (tmp_path / "file" / "cache", False)):
        answers, hits, told, writable = run(tmp_path, cache, full=full)
        assert (answers, hits) == ([42, 3.0], 0)
        assert len(told) == 1
        assert "compiled kernels cannot be kept" in told[0]
        assert not writable


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("left", [b"", b"\x80\x05nonsense", None])
def test_damaged_files_are_written_anew(tmp_path: Path, kind: str, left: bytes | None) -> None:
    cache = tmp_path / "cache"
    run(tmp_path, cache)
    damaged = sorted(cache.rglob(kind))
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-7] if left is None else left)
    assert run(tmp_path, cache) == [[42, 3.0], 0, [], True]
    assert run(tmp_path, cache) == [[42, 3.0], 2, [], True]


def test_machine_code_with_a_few_wrong_bytes_is_not_run(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(tmp_path, cache)
    for path in cache.rglob("*.nbc"):
        code = bytearray(path.read_bytes())
        start = code.index(b"\x7fELF") + 64
        code[start : start + 600] = bytes(600)
        path.write_bytes(code)
    assert run(tmp_path, cache) == [[42, 3.0], 0, [], True]


def test_an_index_names_no_code_of_another_signature(tmp_path: Path) -> None:
    """After a damaged index and a disk that fills up while the next kernel is written."""
    cache = tmp_path / "cache"
    run(tmp_path, cache)
    for path in cache.rglob("*.nbi"):
        path.write_bytes(b"")
    answers, hits, told, _ = run(tmp_path, cache, full=True)
    assert (answers, hits, len(told)) == ([42, 3.0], 0, 1)
    assert run(tmp_path, cache) == [[42, 3.0], 0, [], True]
    assert run(tmp_path, cache) == [[42, 3.0], 2, [], True]

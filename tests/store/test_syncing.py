"""A file written bit by bit is the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from trace_engine.store import syncing
from trace_engine.store.chunkfile import layout_of, read_ipc, write_ipc
from trace_engine.store.syncing import STEADY_BYTES, SteadyFile


def test_everything_is_written_and_synced_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(syncing.os, "fdatasync", told.append)
    data = os.urandom(4 * STEADY_BYTES)
    with SteadyFile(tmp_path / "file") as file:
        assert file.writable()
        assert file.write(data[:7]) == 7
        assert file.write(np.frombuffer(data[7:], np.uint8).data) == len(data) - 7
    assert (tmp_path / "file").read_bytes() == data
    assert len(told) == 3
    file.close()  # again


def test_an_arrow_file_is_the_same_either_way(tmp_path: Path) -> None:
    table = pa.table({"n": np.arange(100_000), "s": pa.array(map(str, range(100_000)))})
    for name, sync in (("a", False), ("b", True)):
        write_ipc(tmp_path / name, table, sync=sync)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_ipc(tmp_path / "b") == table
    assert layout_of(tmp_path / "a") == layout_of(tmp_path / "b")

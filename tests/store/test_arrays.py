"""Arrays come back as they were, into memory that was given, or not at all."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.store.arrays import (
    BLOCK,
    DamagedError,
    check_arrays,
    file_checksum,
    read_arrays,
    write_arrays,
)

KINDS = ["<u8", "<i4", "|u1", "|b1", "<f4", "<U7", "<i2"]


@given(
    shapes=st.lists(
        st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 70), min_size=1, max_size=3)),
        max_size=9,
    )
)
def test_arrays_come_back(
    shapes: list[tuple[str, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("arrays") / "a.bin"
    rng = np.random.default_rng(0)
    arrays = {
        str(i): rng.integers(0, 2, shape).astype(kind) for i, (kind, shape) in enumerate(shapes)
    }
    index = json.loads(json.dumps(write_arrays(path, arrays)))
    found = read_arrays(path, index)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert (found[name] == array).all()
        assert found[name].flags.writeable


@pytest.mark.parametrize("before", [0, 5 * BLOCK, 40 * BLOCK])
def test_a_file_that_is_there_is_written_over(tmp_path: Path, before: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\xff" * before)
    place = path.stat().st_ino
    arrays = large()
    index = write_arrays(path, arrays, sync=True)
    assert path.stat().st_ino == place
    assert path.stat().st_size == index["size"]
    found = read_arrays(path, index)
    assert all((found[name] == array).all() for name, array in arrays.items())


def large() -> dict[str, np.ndarray]:
    """Arrays over many blocks, that begin and end within them."""
    rng = np.random.default_rng(1)
    return {
        "small": np.arange(3),
        "large": rng.integers(0, 2**60, 3 * BLOCK // 2),
        "empty": np.empty((0, 64), np.uint8),
        "odd": rng.integers(0, 255, 2 * BLOCK + 13).astype(np.uint8),
        "last": np.arange(7, dtype=np.int16),
    }


def test_what_is_read_lands_where_it_belongs(tmp_path: Path) -> None:
    arrays = large()
    index = write_arrays(tmp_path / "a.bin", arrays, sync=True)
    held = np.zeros(2 * len(arrays["large"]), np.int64)
    into = {"large": held[: len(arrays["large"])]}
    found = read_arrays(tmp_path / "a.bin", index, into)
    assert found["large"] is into["large"]
    assert (held[: len(arrays["large"])] == arrays["large"]).all()
    assert not held[len(arrays["large"]) :].any()
    assert all((found[name] == array).all() for name, array in arrays.items())


def test_strided_arrays_are_kept(tmp_path: Path) -> None:
    array = np.arange(20).reshape(4, 5)[:, ::2]
    index = write_arrays(tmp_path / "a.bin", {"a": array})
    assert (read_arrays(tmp_path / "a.bin", index)["a"] == array).all()


@pytest.mark.parametrize("place", [0, 5 * BLOCK, 12 * BLOCK + 9])
def test_one_wrong_bit_is_found(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.bin"
    index = write_arrays(path, large())
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)
    for use in (check_arrays, read_arrays):
        with pytest.raises(DamagedError, match=r"a\.bin: damaged between bytes"):
            use(path, index)


def test_a_file_cut_short_or_gone_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    index = write_arrays(path, large())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="bytes, expected"):
        read_arrays(path, index)
    path.unlink()
    with pytest.raises(DamagedError, match="missing"):
        read_arrays(path, index)


@pytest.mark.parametrize("array", [np.array([{}]), np.zeros(2, [("a", "i4"), ("b", "i4")])])
def test_objects_and_records_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="are not kept"):
        write_arrays(tmp_path / "a.bin", {"a": array})


def test_checksum_of_a_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "f").write_bytes(data)
    assert file_checksum(tmp_path / "f") == zlib.crc32(data)

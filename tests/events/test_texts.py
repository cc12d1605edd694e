from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.arrays import margins, shaped, shapes, texts
from trace_engine.events import texts as module
from trace_engine.events.hashing import hash64
from trace_engine.events.texts import TextTable, text_column

BLANKS = "".join(map(chr, range(33)))


def counting() -> tuple[TextTable, list[str]]:
    """Return a table that numbers texts in order of arrival, and the list of what it was asked."""
    asked: list[str] = []

    def resolve(new: Sequence[str]) -> np.ndarray:
        asked.extend(new)
        return np.arange(len(asked) - len(new), len(asked), dtype=np.int64)

    return TextTable(resolve), asked


@given(
    batches=st.lists(st.tuples(texts, shapes, margins, margins), min_size=1, max_size=4),
)
def test_one_payload_a_text(batches: list[tuple[list[str | None], pa.DataType, int, int]]) -> None:
    table, asked = counting()
    for values, shape, before, behind in batches:
        column = text_column(shaped(values, shape, before, behind))
        payload, hashes = table.payload_and_hash(column, -1, np.int32)
        assert payload.dtype == np.int32
        for text, number, h in zip(values, payload.tolist(), hashes.tolist(), strict=True):
            plain = (text or "").strip(BLANKS)
            assert h == hash64(plain)
            assert number == (asked.index(plain) if plain else -1)
        assert table.payload(column, -1, np.int32).tolist() == payload.tolist()
    assert len(asked) == len(set(asked)) == len(table)


def test_many_texts_grow_the_table() -> None:
    table, asked = counting()
    values = [f"text {i}" for i in range(5000)]
    for start in range(0, 5000, 700):
        table.payload(text_column(pa.array(values[: start + 700])), -1)
    assert table.payload(text_column(pa.array(values)), -1).tolist() == list(range(5000))
    assert len(asked) == 5000


@given(lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=60), known=st.integers(0, 60))
def test_room_is_made_in_the_middle_of_a_column(lengths: list[int], known: int) -> None:
    table, asked = counting()
    values = [f"{i % 7}" * length for i, length in enumerate(lengths)]
    table.payload(text_column(pa.array(values[:known], pa.string())), -1)
    payload = table.payload(text_column(pa.array(values, pa.string())), -1).tolist()
    assert payload == [asked.index(text) if text else -1 for text in values]
    assert len(asked) == len(set(asked)) == len(table)


def test_texts_that_could_not_be_resolved_are_asked_for_again() -> None:
    refused = ["bad"]

    def resolve(new: Sequence[str]) -> np.ndarray:
        if refused[0] in new:
            raise ValueError(refused[0])
        return np.array([len(text) for text in new], np.int64)

    table = TextTable(resolve)
    column = text_column(pa.array(["good", "bad", "fine", "good"]))
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            table.payload(column, -1)
    refused[0] = "nothing"
    assert table.payload(column, -1).tolist() == [4, 3, 4, 4]


def test_indices_of_a_dictionary_of_any_width() -> None:
    widths = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    widths += (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    for width in widths:
        indices = pa.array([9, 1, None, 0, 2, 2], width).slice(1)
        column = text_column(pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b", "c"])))
        assert column.indices is not None
        assert column.indices.dtype == np.int32
        assert column.indices.tolist() == [1, -1, 0, 2, 2]


def test_a_full_table_starts_anew(monkeypatch: object) -> None:
    saved = module.MAXIMUM_TEXTS
    module.MAXIMUM_TEXTS = 10
    try:
        table = TextTable(lambda new: np.array([len(text) for text in new], np.int64))
        for i in range(30):
            column = text_column(pa.array(["x" * i, "y" * (i + 1), "x" * i]))
            assert table.payload(column, -1).tolist() == [i or -1, i + 1, i or -1]
        assert len(table) <= 15
    finally:
        module.MAXIMUM_TEXTS = saved


def test_texts_that_are_no_utf8_stay_apart() -> None:
    table, asked = counting()
    binary = pa.array([b"\xff", b"\xfe", b"\xff"], pa.binary())
    array = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    assert table.payload(text_column(array), -1).tolist() == [0, 1, 0]
    assert asked == ["\\xff", "\\xfe"]


def test_arrays_of_nulls_only() -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        table, asked = counting()
        array = pa.nulls(5, kind)
        assert table.payload(text_column(array), -1).tolist() == [-1] * 5
        assert asked == []

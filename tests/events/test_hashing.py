from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.arrays import margins, shaped, shapes, texts
from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder, content_key_rows
from trace_engine.events.hashing import ContentHasher, bill_key, hash64, hash_texts
from trace_engine.events.raw import RawBatch
from trace_engine.events.texts import gather, text_column

BLANKS = "".join(map(chr, range(33)))


# Vectors of the XXH64 specification's reference implementation, seed 0.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", 0xD24EC4F1A98C6E5B),
        ("abc", 0x44BC2CF5AD770999),
        ("Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_known_answers(text: str, expected: int) -> None:
    assert hash64(text) == expected


def test_no_text_is_zero_and_blanks_do_not_count() -> None:
    assert hash64("") == hash64(" \t\n") == 0
    assert hash64(" E1\r\n") == hash64("E1") != 0


@given(values=texts, shape=shapes, before=margins, behind=margins)
def test_kernel_agrees_with_its_twin(
    values: list[str | None], shape: pa.DataType, before: int, behind: int
) -> None:
    column = text_column(shaped(values, shape, before, behind))
    out = np.empty(column.values, np.uint64)
    with np.errstate(over="ignore"):
        hash_texts(column.offsets, column.data, column.valid, out)
    assert gather(out, column.indices, 0).tolist() == [hash64(v or "") for v in values]


@given(data=st.binary(min_size=28, max_size=200))
def test_long_texts_agree(data: bytes) -> None:
    text = data.hex()
    column = text_column(pa.array(["x", text]))
    out = np.empty(2, np.uint64)
    with np.errstate(over="ignore"):
        hash_texts(column.offsets, column.data, column.valid, out)
    assert out[1] == hash64(text)


def test_texts_with_outer_blanks_are_counted() -> None:
    column = text_column(pa.array(["a", " a", "a ", None, "", "a b"]))
    out = np.empty(6, np.uint64)
    with np.errstate(over="ignore"):
        assert hash_texts(column.offsets, column.data, column.valid, out) == 2
    assert out[0] == out[1] == out[2] != out[5]
    assert out[3] == out[4] == 0


def test_bill_numbers_belong_to_an_enterprise() -> None:
    assert bill_key("A", "1") != bill_key("B", "1") != 0
    assert bill_key("A", "") == 0


ROW = {
    "event_time": "2024-05-10 08:00:00",
    "event_type": "201",
    "code": "80217619000000001003",
    "actor_id": "A",
    "to_id": "B",
    "unit_price": "12.50",
    "batch_no": "B1",
    "platform_id": "P",
    "from_region": "110105",
    "rx_no": "R1",
    "device_id": "D1",
    "receivable": "3",
    "temperature": "5.5",
}


def encode(
    rows: list[dict[str, str]], words: Vocabulary | None = None
) -> tuple[list[int], Encoder]:
    names = dict.fromkeys(name for row in rows for name in row)
    batch = pa.record_batch({name: pa.array([r.get(name) for r in rows]) for name in names})
    encoder = Encoder(words or Vocabulary(), key=b"k")
    encoded = encoder.encode(RawBatch(batch, "f"))
    assert encoded.rejects.num_rows == 0
    return content_key_rows(encoded.batch, None, encoder.vocabulary).tolist(), encoder


def test_equal_content_has_equal_keys_whatever_arrived_before() -> None:
    words = Vocabulary()
    encode([{**ROW, "actor_id": "Z", "to_id": "Y", "batch_no": "B9", "platform_id": "Q"}], words)
    assert encode([ROW], words)[0] == encode([ROW])[0]


def test_upload_time_id_and_absent_columns_are_not_content() -> None:
    uploaded = {**ROW, "record_time": "2024-05-11", "event_id": "X", "doctor_id": ""}
    assert encode([ROW])[0] == encode([uploaded])[0]


@pytest.mark.parametrize("name", [*ROW, "invoice_no", "parent_code", "order_code", "quantity"])
def test_every_column_is_content(name: str) -> None:
    other = {
        "event_time": "2024-05-10 08:00:01", "event_type": "209", "code": "80217619000000001004",
        "unit_price": "12.51", "from_region": "120101", "receivable": "4", "temperature": "5.6",
        "quantity": "2",
    }.get(name, "other")  # fmt: skip
    first, second = encode([ROW, {**ROW, name: other}])[0]
    assert first != second


def test_swapping_columns_changes_the_key() -> None:
    first, second = encode(
        [{**ROW, "rx_no": "1", "device_id": "2"}, {**ROW, "rx_no": "2", "device_id": "1"}]
    )[0]
    assert first != second


def test_keys_of_some_rows_are_those_of_all() -> None:
    rows = [{**ROW, "to_id": str(i), "code": f"(01)06970593810109(21){i}"} for i in range(10)]
    keys, encoder = encode(rows)
    assert len(set(keys)) == 10
    batch = encoder.encode(RawBatch(pa.RecordBatch.from_pylist(rows), "f")).batch
    hasher = ContentHasher(encoder.vocabulary)
    assert hasher.keys(batch, np.array([7, 2])).tolist() == [keys[7], keys[2]]

"""What is stored of a delivery gives the same events again, and shows no number of a person."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.arrays import SHAPES, shaped
from trace_engine.events.batch import COLUMN_TYPES, EventBatch, Vocabulary
from trace_engine.events.encode import Encoded, Encoder
from trace_engine.events.findings import REJECTS
from trace_engine.events.masking import masked
from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import PERSONAL_COLUMNS, RawBatch
from trace_engine.events.schema import COLUMNS
from trace_engine.readers.payload import PayloadError, admit, read_payload, replay

CARD = "11010519491231002X"  # the example of GB 11643
PHONE = "13812345678"
SECRETS = (CARD, PHONE, "110105194912310021", "E12345678", "0086-138-1234-5678")

_WORDS: dict[str, list[str | None]] = {
    "event_id": ["e1", "e2", "e3", None, "", CARD],
    "event_time": ["2026-03-01 10:00:00", "2026-03-02", "20260303", "tomorrow", None, PHONE],
    "record_time": ["2026-03-04T00:00:00Z", None, "never"],
    "event_type": ["retail_sale", "201", "销售出库", "quantity", "dance", None, "106"],
    "code": ["81000010000000000017", "81000010000000000024", "8.1E+19", None, "ABC-1", CARD],
    "actor_id": ["P1", "P2", None, CARD, "企业一"],
    "from_region": ["110105", "999999", None],
    "expiry_date": ["2027-05", "2027-05-31", "soon", None],
    "quantity": ["1", "2.0", "-1", "many", None, PHONE],
    "unit_price": ["12.50", "￥3", "-4", None, "1e9"],
    "bill_code": ["B1", f"单{CARD}号", None, " B2 "],
    "split_sale": ["是", "false", None, "maybe"],
    "pack_level": ["1", "9999", None],
    "temperature": ["4.5", "-400", None],
    **{name: ["p-1", "王小明 13812345678", None, *SECRETS] for name in sorted(PERSONAL_COLUMNS)},
}  # fmt: skip


def compared(encoded: Encoded) -> dict[str, Any]:
    """Return everything an encoding says, as plain values."""
    events = encoded.batch
    columns: dict[str, Any] = {name: getattr(events, name).tolist() for name in COLUMN_TYPES}
    columns |= {f"optional {name}": values.tolist() for name, values in events.optional.items()}
    columns |= {
        name: events.text(name, np.arange(len(events))) for name in events.strings.schema.names
    }
    assert events.origin is not None
    columns["origin"] = events.origin.tolist()
    columns["rejects"] = encoded.rejects.to_pylist()
    columns["rows_in"] = encoded.rows_in
    columns["unknown_regions"] = encoded.unknown_regions
    return columns


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(0, 12))
    names = draw(st.lists(st.sampled_from(sorted(_WORDS)), unique=True, max_size=10))
    arrays, taken = [], []
    for name in dict.fromkeys(["event_time", "event_type", "code", "actor_id", *names]):
        values = draw(st.lists(st.sampled_from(_WORDS[name]), min_size=rows, max_size=rows))
        shape = draw(st.sampled_from(SHAPES))
        arrays.append(shaped(values, shape, draw(st.integers(0, 3)), draw(st.integers(0, 3))))
        taken.append(name)
    return pa.RecordBatch.from_arrays(arrays, taken)


def _encoder() -> Encoder:
    return Encoder(Vocabulary(), key=b"test")


@given(batches())
def test_a_payload_gives_the_same_events_and_rejects(batch: pa.RecordBatch) -> None:
    encoder = _encoder()
    numbers = np.cumsum(np.arange(1, batch.num_rows + 1))
    unread = pa.Table.from_pylist(
        [{"file": "body", "row": 2, "column": "", "reason": "bad_json", "detail": "", "raw": "{"}],
        REJECTS,
    )
    encoded, payload = admit(RawBatch(batch, "body", 1, numbers), unread, encoder)
    assert compared(replay(payload, encoder)) == compared(encoded)
    assert encoded.rows_in == batch.num_rows + 1
    assert len(encoded.batch) + encoded.rejects.num_rows == encoded.rows_in
    assert encoded.rejects["row"].to_pylist() == sorted(encoded.rejects["row"].to_pylist())


@given(batches())
def test_nothing_stored_shows_a_number_of_a_person(batch: pa.RecordBatch) -> None:
    encoded, payload = admit(RawBatch(batch, "body"), REJECTS.empty_table(), _encoder())
    stored = read_payload(payload)
    for raw in (stored.raw.batch, encoded.rejects.to_batches()[0] if encoded.rejects else None):
        if raw is None:
            continue
        for name, array in zip(raw.schema.names, raw.columns, strict=True):
            held = list(array.dictionary if pa.types.is_dictionary(array.type) else array)
            shown = " ".join(str(value) for value in held)
            assert CARD not in shown, name
            if name in PERSONAL_COLUMNS:
                assert PHONE not in shown, name
    # Bytes that no row refers to are not stored either (packed buffers hide text: look unpacked).
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, stored.raw.batch.schema) as writer:
        writer.write_batch(stored.raw.batch)
    assert CARD.encode() not in sink.getvalue().to_pybytes()


@given(batches())
def test_masked_rows_are_the_same_events(batch: pa.RecordBatch) -> None:
    """But for keys made of the text of a person's number, which masking replaces on purpose."""
    encoder = _encoder()
    direct = encoder.encode(RawBatch(batch, "body"))
    through, _ = admit(RawBatch(batch, "body"), REJECTS.empty_table(), encoder)
    for name in ("time", "kind", "actor", "target", "drug", "price", "quantity", "buyer", "flags"):
        assert getattr(through.batch, name).tolist() == getattr(direct.batch, name).tolist(), name
    assert through.rejects.drop_columns(["detail", "raw"]).equals(
        direct.rejects.drop_columns(["detail", "raw"])
    )


def test_masking_twice_changes_nothing() -> None:
    pseudonyms = Pseudonyms(b"test")
    columns = [c.name for c in COLUMNS if c.name in _WORDS]
    rows = max(map(len, _WORDS.values()))
    batch = pa.RecordBatch.from_arrays(
        [pa.array((_WORDS[name] * rows)[:rows], pa.string()) for name in columns], columns
    )
    once = masked(batch, pseudonyms)
    assert masked(once, pseudonyms).equals(once)
    assert not once.equals(batch)


def test_digits_of_persons_are_found_however_they_are_written() -> None:
    pseudonyms = Pseudonyms(b"test")
    wide = CARD.translate(str.maketrans("0123456789", "０１２３４５６７８９"))
    texts = [CARD, CARD.lower(), f"x {CARD},", wide, f"1{CARD}", f"a{CARD}", "1" * 18, f"{CARD}1"]
    batch = pa.RecordBatch.from_arrays([pa.array(texts)], ["bill_code"])
    shown = masked(batch, pseudonyms).column(0).to_pylist()
    changed = [before != after for before, after in zip(texts, shown, strict=True)]
    assert changed == [True, True, True, True, False, False, False, False]


def test_whole_numbers_where_text_is_meant_are_masked_too() -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([13812345678, None]), pa.array([110105194912310021, 5])],
        ["buyer_id", "bill_code"],
    )
    out = masked(batch, Pseudonyms(b"test"))
    assert out.column(0).to_pylist()[0].startswith("p:")
    assert out.column(1).to_pylist() == ["110105194912310021", "5"]  # its check character is wrong


def test_a_damaged_payload_is_named_as_such() -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([text]) for text in ("2026-03-01", "201", "81000010000000000017", "P1")],
        ["event_time", "event_type", "code", "actor_id"],
    )
    _, payload = admit(RawBatch(batch, "body"), REJECTS.empty_table(), _encoder())
    assert len(read_payload(payload).raw) == 1
    for cut in (0, 7, len(payload) // 2, len(payload) - 40):
        with pytest.raises(PayloadError):
            read_payload(payload[:cut])


def test_events_do_not_hold_the_memory_of_the_body() -> None:
    before = pa.total_allocated_bytes()
    rows = 20_000
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(["2026-03-01"] * rows), pa.array(["201"] * rows),
            pa.array(["81000010000000000017"] * rows), pa.array(["P1"] * rows),
            pa.array(["invoice " * 40] * rows),
        ],
        ["event_time", "event_type", "code", "actor_id", "invoice_no"],
    )  # fmt: skip
    encoded, _ = admit(RawBatch(batch, "body"), REJECTS.empty_table(), _encoder())
    del batch
    assert isinstance(encoded.batch, EventBatch)
    assert pa.total_allocated_bytes() - before < 2_000_000

"""Bodies are read as files are, within limits, whatever they claim to be."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.readers.test_payload import compared
from trace_engine.events.batch import OPTIONAL_COLUMNS, EventBatch, Vocabulary
from trace_engine.events.encode import Encoded, Encoder
from trace_engine.events.kinds import EventKind
from trace_engine.events.raw import InputError
from trace_engine.readers import open_events
from trace_engine.readers.arrow_ipc import _is_even
from trace_engine.service import bodies
from trace_engine.service.bodies import (
    SMALL_BODY,
    Admitted,
    Door,
    Media,
    Room,
    decode_payload,
    encoding_of,
    media_of,
)
from trace_engine.service.problems import Problem

EVENT: dict[str, Any] = {
    "event_id": "e1",
    "event_time": "2026-03-01 10:00:00",
    "event_type": "retail_sale",
    "code": "81000010000000000017",
    "actor_id": "P1",
}
BATCH = pa.RecordBatch.from_pylist([EVENT, {**EVENT, "event_id": "e2"}])


def a_door(**limits: Any) -> Door:
    return Door(Encoder(Vocabulary(), key=b"test"), threads=1, **limits)


def lines(*events: Any) -> bytes:
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


def stream(batch: pa.RecordBatch, *, file: bool = False, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_file if file else pa.ipc.new_stream
    with make(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def refused(door: Door, body: bytes, media: Media, **more: str) -> Problem:
    with pytest.raises(Problem) as caught:
        door.read(body, media, **more)
    assert 400 <= caught.value.status_code < 500
    return caught.value


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**30), st.sampled_from([0.5, 2.0, 1e22, -3.75]),
    st.sampled_from(["", "1", "12.5", "是", "2026-03-01", "20260301", "tomorrow", "B\u3000单"]),
)  # fmt: skip
_SPECIAL = {
    "event_time": st.sampled_from(["2026-03-01 10:00:00", "2026-03-02", 20260303, None, "x"]),
    "event_type": st.sampled_from(["retail_sale", 201, "销售出库", 106, "dance", None]),
    "code": st.sampled_from([EVENT["code"], 81000010000000000024, "ABC", 8.1e19, None]),
    "actor_id": st.sampled_from(["P1", 7, "企业", None]),
}
_OTHERS = ["quantity", "unit_price", "gift", "buyer_id", "bill_code", "pack_level", "temperature",
           "expiry_date", "record_time", "warehouse", "备注"]  # fmt: skip


@st.composite
def objects(draw: st.DrawFn) -> list[Any]:
    """Objects as senders write them: mostly alike, some odd, some none at all."""
    rows: list[Any] = []
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            rows.append(draw(st.sampled_from([5, "x", [1], False, True])))
            continue
        row = {name: draw(values) for name, values in _SPECIAL.items()}
        for name in draw(st.lists(st.sampled_from(_OTHERS), unique=True, max_size=4)):
            row[name] = draw(_SCALARS)
        if kind == 1:
            row["bill_code"] = draw(st.sampled_from([{"a": 1}, [1, 2]]))
        if kind == 2:
            row["备注"] = {"deep": [[1]]}
        rows.append(row)
    return rows


def from_file(path: Path) -> tuple[Encoded, int]:
    """Return what the reader of files makes of NDJSON."""
    encoder = Encoder(Vocabulary(), key=b"test")
    source = open_events(str(path), key=b"test")
    parts = [encoder.encode(raw) for raw in source.batches()]
    rejects = pa.concat_tables([source.rejects, *(part.rejects for part in parts)])
    events = EventBatch.concat([part.batch for part in parts] or [EventBatch.empty()])
    for name, (_, missing) in OPTIONAL_COLUMNS.items():  # those that only refused rows state
        if name in events.optional and (events.optional[name] == missing).all():
            del events.optional[name]
    if events.origin is None:
        events.origin = np.empty(0, np.int64)
    return Encoded(events, rejects.sort_by("row"), 0), len(events)


@given(objects())
def test_lines_mean_what_they_mean_in_a_file(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(lines(*rows))
    try:
        expected, accepted = from_file(path)
    except InputError:
        return  # a file must have every required column somewhere; a body need not
    found = a_door().read(path.read_bytes(), Media.NDJSON)
    assert len(found.encoded.batch) == accepted
    ours, theirs = compared(found.encoded), compared(expected)
    for name, values in theirs.items():
        if name not in ("rejects", "rows_in", "unknown_regions"):
            assert ours[name] == values, name
    assert reasons(ours) == reasons(theirs)


def reasons(told: dict[str, Any]) -> list[tuple[int, str, str]]:
    # Of a number beyond all bounds the encoder says one or the other, by the column's type.
    return [
        (r["row"], r["column"], r["reason"].replace("absurd_", "bad_")) for r in told["rejects"]
    ]


@given(objects())
def test_an_array_means_what_its_lines_mean(rows: list[Any]) -> None:
    door = a_door()
    pretty = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    by_line, by_item = outcome(door, lines(*rows), Media.NDJSON), outcome(door, pretty, Media.JSON)
    if isinstance(by_line, int) or isinstance(by_item, int):
        assert by_line == by_item
        return
    first, second = compared(by_line.encoded), compared(by_item.encoded)
    told = [[{**r, "detail": "", "raw": ""} for r in c.pop("rejects")] for c in (first, second)]
    assert first == second
    assert told[0] == told[1]


def outcome(door: Door, body: bytes, media: Media) -> Admitted | int:
    try:
        return door.read(body, media)
    except Problem as problem:
        return problem.status_code


@given(objects())
def test_what_is_stored_is_what_was_answered(rows: list[Any]) -> None:
    door = a_door()
    found = outcome(door, lines(*rows), Media.NDJSON)
    if not isinstance(found, int):
        again = decode_payload(found.payload, door.encoder)
        assert compared(again) == compared(found.encoded)
        assert len(again.batch) + again.rejects.num_rows == found.rows == len(rows)


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_in_every_wrapping(file: bool, compression: str | None) -> None:
    media = Media.ARROW_FILE if file else Media.ARROW_STREAM
    found = a_door().read(stream(BATCH, file=file, compression=compression), media)
    assert found.encoded.batch.strings["event_id"].to_pylist() == ["e1", "e2"]


def test_many_batches_of_arrow_are_one_delivery() -> None:
    sink = pa.BufferOutputStream()
    labelled = BATCH.set_column(3, "code", BATCH.column(3).dictionary_encode())
    with pa.ipc.new_stream(sink, labelled.schema) as writer:
        for _ in range(3):
            writer.write_batch(labelled)
    found = a_door().read(sink.getvalue().to_pybytes(), Media.ARROW_STREAM)
    assert found.rows == 6
    assert found.encoded.batch.origin is not None
    assert found.encoded.batch.origin.tolist() == [1, 2, 3, 4, 5, 6]


def test_every_kind_of_text_column_is_taken() -> None:
    door = a_door()
    plain = compared(door.read(stream(BATCH), Media.ARROW_STREAM).encoded)
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int16(), pa.large_string())):
        columns = [column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else
                   column.cast(kind) for column in BATCH.columns]  # fmt: skip
        body = stream(pa.RecordBatch.from_arrays(columns, BATCH.schema.names))
        assert compared(door.read(body, Media.ARROW_STREAM).encoded) == plain, kind


def test_unknown_columns_are_named_and_duplicates_refused() -> None:
    door = a_door()
    found = door.read(lines({**EVENT, "仓库": 1, "memo": {"x": []}}, EVENT), Media.NDJSON)
    assert found.ignored == ("仓库", "memo")
    again = door.read(lines({**EVENT, "memo": 1}, {**EVENT, "extra": 2}), Media.NDJSON)
    assert set(again.ignored) == {"memo", "extra"}
    batch = BATCH.append_column("memo", pa.array([[1], [2]]))
    assert door.read(stream(batch), Media.ARROW_STREAM).ignored == ("memo",)
    twice = pa.RecordBatch.from_arrays(
        [*BATCH.columns, BATCH.column(0)], [*BATCH.schema.names, "code"]
    )
    assert "code" in refused(door, stream(twice), Media.ARROW_STREAM).text
    both = refused(door, lines(EVENT, {**EVENT, "追溯码": "1"}), Media.NDJSON)
    assert "追溯码" in both.text
    assert "code" in both.text


def test_chinese_headers_and_encodings() -> None:
    event = {
        "单据日期": "2026-03-01",
        "单据类型": "销售出库",
        "追溯码": EVENT["code"],
        "操作企业": "企",
    }
    door = a_door()
    for body in (lines(event), lines(event).decode().encode("gb18030")):
        found = door.read(body, Media.NDJSON)
        assert found.encoded.rejects.num_rows == 0
    body = json.dumps([event], ensure_ascii=False).encode("gb18030")
    assert door.read(body, Media.JSON, "gbk").encoded.rejects.num_rows == 0
    assert len(door.read(b"\xef\xbb\xbf" + lines(event), Media.NDJSON).encoded.batch) == 1


def test_a_bill_without_codes_needs_no_column_of_codes() -> None:
    bill = {k: v for k, v in EVENT.items() if k != "code"} | {"event_type": 106}
    found = a_door().read(lines(bill), Media.NDJSON)
    assert len(found.encoded.batch) == 1
    assert "actor_id" in refused(a_door(), lines({"foo": 1}), Media.NDJSON).text


def test_nothing_in_a_body_is_a_problem_of_its_own() -> None:
    door = a_door()
    empty = stream(BATCH.slice(0, 0))
    for body, media in (
        (b"", Media.JSON), (b"[]", Media.JSON), (b'{"events":[]}', Media.JSON),
        (b"\n \n", Media.NDJSON), (b"", Media.ARROW_STREAM), (empty, Media.ARROW_STREAM),
    ):  # fmt: skip
        assert refused(door, body, media).text == "the body holds no events"


def test_limits_of_rows_and_bytes() -> None:
    door = a_door(most_rows=3, most_unpacked=1 << 16)
    assert refused(door, lines(*[EVENT] * 4), Media.NDJSON).status_code == 413
    assert refused(door, json.dumps([EVENT] * 4).encode(), Media.JSON).status_code == 413
    four = pa.RecordBatch.from_pylist([EVENT] * 4)
    assert refused(door, stream(four), Media.ARROW_STREAM).status_code == 413
    assert door.read(lines(*[EVENT] * 3), Media.NDJSON).rows == 3


def test_bombs_are_refused_before_they_unfold() -> None:
    door = a_door(most_unpacked=1 << 20)
    before = pa.total_allocated_bytes()
    packed = gzip.compress(b" " * (64 << 20))
    assert refused(door, packed, Media.NDJSON, encoding="gzip").status_code == 413
    packed = pa.compress(b" " * (64 << 20), "zstd", asbytes=True)
    assert refused(door, packed, Media.NDJSON, encoding="zstd").status_code == 413
    long = pa.RecordBatch.from_pylist([{**EVENT, "bill_code": "x" * (8 << 20)}])
    for compression in ("zstd", "lz4"):
        body = stream(long, compression=compression)
        assert len(body) < 1 << 20
        assert refused(door, body, Media.ARROW_STREAM).status_code == 413
    wide = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), ["y" * 100_000])
    repeated = pa.RecordBatch.from_arrays(
        [wide] * 4, ["event_time", "event_type", "code", "actor_id"]
    )
    assert refused(door, stream(repeated), Media.ARROW_STREAM).status_code == 413
    nulls = pa.RecordBatch.from_arrays(
        [pa.nulls(1 << 20)] * 4, ["event_time", "event_type", "code", "actor_id"]
    )
    assert refused(a_door(most_rows=1000), stream(nulls), Media.ARROW_STREAM).status_code == 413
    assert pa.total_allocated_bytes() - before < 64 << 20


def test_bodies_of_nothing_are_refused_before_they_take_memory() -> None:
    door = a_door(most_rows=1000)
    for body in (
        b"\n" * (8 << 20),
        b"\r\n" * (4 << 20),
        "\n".join("" for _ in range(1 << 20)).encode("utf-16"),
    ):
        assert refused(door, body, Media.NDJSON).status_code == 413
    assert refused(door, b"[" + b"1," * (4 << 20) + b"1]", Media.JSON).status_code == 413
    assert refused(door, b"[" + b"{}," * 10_000 + b"{}]", Media.JSON).status_code == 413
    keys = ",".join(f'"k{i}":1' for i in range(5000)).encode()
    found = door.read(lines(EVENT) + b"{" + keys + b"}\n", Media.NDJSON)
    assert found.encoded.rejects["reason"].to_pylist() == ["bad_json"]


def test_a_type_of_thousands_of_digits_is_no_bill() -> None:
    event = {**EVENT, "event_type": "9" * 5000}
    for body, media in (
        (lines(EVENT, event), Media.NDJSON),
        (json.dumps([EVENT, event]).encode(), Media.JSON),
        (stream(pa.RecordBatch.from_pylist([EVENT, event])), Media.ARROW_STREAM),
    ):
        found = a_door().read(body, media)
        assert found.rows == 2
        assert found.encoded.batch.kind[1] == EventKind.UNKNOWN


def test_arrow_that_numpy_cannot_take_is_refused() -> None:
    zone = pa.array([0], pa.timestamp("us", "Asia/Shanghai"))
    rest = [pa.array([EVENT[name]]) for name in ("event_type", "code", "actor_id")]
    names = ["event_time", "event_type", "code", "actor_id"]
    body = stream(pa.RecordBatch.from_arrays([zone, *rest], names))
    assert body.count(b"Asia/Shanghai") == 1
    a_door().read(body, Media.ARROW_STREAM)
    broken = body.replace(b"Asia/Shanghai", b"Asia/\xff\xfehang\xff")
    assert refused(a_door(), broken, Media.ARROW_STREAM).status_code == 422
    for kind, buffers, even in (
        (pa.int64(), [None, pa.py_buffer(bytes(9))], False),
        (pa.int64(), [None, pa.py_buffer(bytes(8))], True),
        (pa.decimal128(9, 2), [None, pa.py_buffer(bytes(24))], False),
        (pa.bool_(), [None, pa.py_buffer(bytes(1))], True),
        (pa.string(), [None, pa.py_buffer(bytes(11)), pa.py_buffer(b"")], False),
        (pa.large_string(), [None, pa.py_buffer(bytes(20)), pa.py_buffer(b"")], False),
    ):
        assert _is_even(pa.Array.from_buffers(kind, 1, buffers)) == even
    indices = pa.Array.from_buffers(pa.int32(), 1, [None, pa.py_buffer(bytes(5))])
    assert not _is_even(pa.DictionaryArray.from_arrays(indices, pa.array(["a"]), safe=False))


def test_packed_bodies() -> None:
    door = a_door()
    body = lines(EVENT)
    members = gzip.compress(body) + gzip.compress(body)
    assert door.read(members, Media.NDJSON, encoding="gzip").rows == 2
    packed = pa.compress(body, "zstd", asbytes=True)
    assert door.read(packed, Media.NDJSON, encoding="zstd").rows == 1
    for broken, encoding in (
        (gzip.compress(body)[:-9], "gzip"), (body, "gzip"), (members + b"x", "gzip"),
        (packed[:-3], "zstd"), (body, "zstd"),
    ):  # fmt: skip
        assert refused(door, broken, Media.NDJSON, encoding=encoding).status_code == 400


def test_depth_numbers_and_bytes_that_break_parsers() -> None:
    door = a_door()
    deep = b'{"events":' + b"[" * 200_000
    assert refused(door, deep, Media.JSON).status_code == 422
    odd = [
        b'{"event_time":' * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"code":' + b"9" * 5000 + b"}",
        b'{"quantity":1e999}',
        b'{"unit_price":NaN}',
        b'{"unit_price":-Infinity}',
        b'{"code":"\\ud800"}',
        b'{"code":"\xff\xfe\xfd"}',
        b"\x7f\x01\x02",
        b'{"code":"1"} {"code":"2"}',
    ]
    found = door.read(lines(EVENT) + b"\n".join(odd) + b"\n" + lines(EVENT), Media.NDJSON)
    assert len(found.encoded.batch) == 2
    assert found.rows == len(odd) + 2
    assert found.encoded.rejects["row"].to_pylist() == list(range(2, len(odd) + 2))


def test_a_sender_cannot_make_up_columns_without_end() -> None:
    door = a_door()
    before = pa.total_allocated_bytes()
    body = b"".join(b'{"code":"1","k%d":%d}\n' % (i, i) for i in range(20_000))
    found = door.read(body, Media.NDJSON)
    assert found.rows == 20_000
    assert len(found.ignored) <= 101
    assert pa.total_allocated_bytes() - before < 32 << 20


def test_numbers_that_are_odd_in_arrow_are_missing_or_refused() -> None:
    floats = pa.array([float("nan"), float("inf")])
    batch = BATCH.append_column("unit_price", floats)
    found = a_door().read(stream(batch), Media.ARROW_STREAM)
    assert found.encoded.batch.price.tolist() == [-1]
    assert found.encoded.rejects["reason"].to_pylist() == ["bad_unit_price"]
    for array in (
        pa.array([[1], [2]]), pa.array([1, 2], pa.duration("s")),
        pa.array([1, 2], pa.decimal128(38, 30)), pa.array([1, 2]).dictionary_encode(),
    ):  # fmt: skip
        batch = BATCH.append_column("quantity", array)
        found_or_not = outcome(a_door(), stream(batch), Media.ARROW_STREAM)
        assert found_or_not == 422 or not isinstance(found_or_not, int), array.type


def test_content_types_and_encodings() -> None:
    assert media_of("application/json; charset=UTF-8") == (Media.JSON, "utf-8")
    assert media_of("Application/X-NDJSON") == (Media.NDJSON, "")
    assert media_of("application/jsonl")[0] is Media.NDJSON
    for wrong in (None, "", "text/plain", "application/json; charset=utf-7", "application/xml"):
        with pytest.raises(Problem) as caught:
            media_of(wrong)
        assert caught.value.status_code == 415
    assert [encoding_of(e) for e in (None, "identity", "x-gzip", "ZSTD")] == [
        "identity", "identity", "gzip", "zstd",
    ]  # fmt: skip
    for wrong in ("br", "gzip, gzip", "deflate"):
        with pytest.raises(Problem) as caught:
            encoding_of(wrong)
        assert caught.value.status_code == 415
        assert dict(caught.value.headers or {})["Accept-Encoding"] == "gzip, zstd, identity"


def test_room_for_bodies_is_given_back() -> None:
    room = Room(100)
    room.take(80)
    with pytest.raises(Problem) as caught:
        room.take(30)
    assert caught.value.status_code == 429
    room.give(80)
    room.take(100)


def a_dense_stream(rows: int) -> bytes:
    """Few bytes, many rows: every column one text, packed."""
    batch = pa.RecordBatch.from_pydict(
        {
            name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [value])
            for name, value in (EVENT | {"event_time": "yesterday"}).items()
        }
    )
    return stream(batch, compression="zstd")


def a_long_text(rows: int) -> bytes:
    """One text of a hundred thousand characters, meant by every row."""
    columns: dict[str, pa.Array] = {name: pa.array([EVENT[name]] * rows) for name in EVENT}
    columns["bill_code"] = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, np.int32)), ["B" * 100_000]
    )
    return stream(pa.RecordBatch.from_pydict(columns))


def test_what_is_much_in_few_bytes_is_read_among_the_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[str] = []

    def admit(*given: Any) -> Any:
        threads.append(threading.current_thread().name)
        return real(*given)

    real = bodies.admit
    monkeypatch.setattr(bodies, "admit", admit)
    door = a_door()

    def taken(body: bytes, media: Media) -> tuple[str, int]:
        assert len(body) <= SMALL_BODY
        threads.clear()
        found = asyncio.run(door.take(body, media, "", "identity", named=False))
        (name,) = threads  # encoded once, wherever
        return name.rpartition("_")[0], found.rows

    many = [{**EVENT, "event_id": f"e{i}"} for i in range(500)]
    tiny = stream(BATCH.slice(0, 1))
    batches = pa.Table.from_batches([BATCH] * 100)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches.schema) as writer:
        writer.write_table(batches, max_chunksize=2)
    for body, media, where, rows in (
        (lines(*many), Media.NDJSON, "small door", 500),
        (json.dumps(many).encode(), Media.JSON, "small door", 500),
        (stream(pa.RecordBatch.from_pylist(many)), Media.ARROW_STREAM, "small door", 500),
        (a_dense_stream(500), Media.ARROW_STREAM, "small door", 500),
        (tiny, Media.ARROW_STREAM, "small door", 1),
        (a_dense_stream(5_000), Media.ARROW_STREAM, "door", 5_000),
        (a_long_text(200), Media.ARROW_STREAM, "door", 200),
        (bytes(sink.getvalue()), Media.ARROW_STREAM, "door", 200),
        (b"[\n" * 5_000, Media.NDJSON, "door", 5_000),
        (b"[" + b"1," * 5_000 + b"1]", Media.JSON, "door", 5_001),
    ):
        assert taken(body, media) == (where, rows), (media, rows)
    door.close()


def test_a_small_body_beyond_the_limits_is_too_large_wherever_it_is_read() -> None:
    door = a_door(most_rows=3)
    with pytest.raises(Problem) as caught:
        asyncio.run(door.take(lines(*[EVENT] * 4), Media.NDJSON, "", "identity", named=False))
    assert caught.value.status_code == 413
    door.close()


def test_digests_tell_bodies_apart_without_telling_what_they_hold() -> None:
    door = a_door()
    one = door.read(lines(EVENT), Media.NDJSON).digest
    assert one == door.read(gzip.compress(lines(EVENT)), Media.NDJSON, encoding="gzip").digest
    assert one != door.read(lines({**EVENT, "event_id": "e9"}), Media.NDJSON).digest
    other = Door(Encoder(Vocabulary(), key=b"another"), threads=1)
    assert one != other.read(lines(EVENT), Media.NDJSON).digest

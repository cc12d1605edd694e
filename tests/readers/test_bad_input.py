from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.readers.files import HEADERS, csv_bytes, json_bytes, read, sample_rows, write_parquet
from trace_engine.events import raw
from trace_engine.events.findings import REJECTS
from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import RejectList
from trace_engine.readers import InputError, lines, open_events
from trace_engine.readers.lines import LineReader

ROWS = sample_rows(20)
CARD = "11010519491231002X"


def refused(path: Path | str, **options: object) -> str:
    """Return the one line that says why ``path`` cannot be used."""
    with pytest.raises(InputError) as caught:
        list(open_events(path, **options).batches())  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_nothing_there(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "x.csv")
    assert "no file matches" in refused(f"{tmp_path}/*.parquet")
    assert "no event files" in refused(tmp_path)
    with pytest.raises(InputError, match="no input"):
        open_events([])


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.csv", b"", "empty"),
        ("x.ndjson", b"", "empty"),
        ("x.parquet", b"", "empty"),
        ("x.csv", b" \n\n", "only blanks"),
        ("x.csv", csv_bytes([]), "no rows"),
        ("x.csv", csv_bytes([]) + b"\n \n", "no rows"),
        ("x.parquet", b"not Parquet at all", "PAR1"),
        ("x.xlsx", b"PK\x03\x04rest", "spreadsheet"),
        ("x.json", b'[{"code": 1}]', "array"),
        ("x.ndjson", b'"text"\n', "no JSON object"),
        ("x.csv", b"a" * 70_000, "first line"),
        ("x.csv.gz", gzip.compress(csv_bytes(ROWS))[:-12], "Truncated"),
        ("x.gz", b"\x1f\x8bnonsense, not gzip", "decompress"),
        ("x.xml", b"<?xml version='1.0'?>", "XML"),
    ],
)  # fmt: skip
def test_files_that_are_no_events(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert words in refused(tmp_path / name)


def test_parquet_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, sample_rows(1000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "truncated or damaged" in refused(path)
    path.write_bytes(data[:200] + bytes(600) + data[800:])
    assert "truncated or damaged" in refused(path)


def test_parquet_without_rows(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", [])
    assert "no rows" in refused(tmp_path / "x.parquet")


def test_an_empty_day_among_others_is_fine(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(csv_bytes([]))
    (tmp_path / "2.csv").write_bytes(csv_bytes(ROWS))
    write_parquet(tmp_path / "3.parquet", [])
    assert len(read(tmp_path)[0]) == 20


def test_missing_columns_name_their_nearest(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("单据日期,单据类型,追溯码号,操作企业\n1,2,3,4\n")
    message = refused(path)
    assert "code (追溯码), nearest is '追溯码号'" in message
    assert "found: 单据日期" in message
    path.write_text("event_tme,event_type,code\n1,2,3\n")
    message = refused(path)
    assert "event_time" in message
    assert "nearest is 'event_tme'" in message
    assert "actor_id" in message
    (tmp_path / "x.ndjson").write_text('{"code": "1", "actor": "2"}\n')
    assert "actor_id (操作企业), nearest is 'actor'" in refused(tmp_path / "x.ndjson")
    pq.write_table(pa.table({"code": ["1"]}), tmp_path / "x.parquet")
    assert "event_time" in refused(tmp_path / "x.parquet")


def test_two_columns_of_one_meaning(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("event_time,event_type,code,追溯码,actor_id\n1,2,3,4,5\n")
    assert "both mean code" in refused(path)


@pytest.mark.parametrize(
    ("kind", "words"), [(pa.list_(pa.string()), "list"), (pa.float64(), "do not survive")]
)
def test_codes_of_a_wrong_type(tmp_path: Path, kind: pa.DataType, words: str) -> None:
    path = tmp_path / "x.parquet"
    columns = {name: ["201"] for name in ("event_time", "event_type", "actor_id")}
    pq.write_table(pa.table({**columns, "code": pa.nulls(1, kind)}), path)
    assert words in refused(path)


def test_lines_with_other_numbers_of_fields(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    parts = csv_bytes(ROWS).split(b"\n")
    parts[3] += b",one more"
    parts[7] = parts[7].rsplit(b",", 2)[0]
    parts.insert(9, b"")
    path.write_bytes(b"\n".join(parts))
    events, rejects = read(path)
    assert len(events) == 18
    assert [(r["row"], r["reason"]) for r in rejects] == [
        (3, "wrong_field_count"), (7, "wrong_field_count"),
    ]  # fmt: skip
    assert rejects[0]["detail"] == "line 4: found 8 fields, expected 7"
    assert rejects[1]["detail"].startswith("line 8: found 5 fields")


def test_rows_keep_their_numbers_behind_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    parts = csv_bytes(ROWS).split(b"\n")
    parts[2] = b"\xff\xff\xff,not text"
    parts[4] += b",extra"
    parts[10] = parts[10].replace(b"2024", b"24")
    parts.insert(6, b"   ")
    path.write_bytes(b"\n".join(parts))
    source = open_events(path)
    numbers = [raw.row_number(i) for raw in source.batches() for i in range(len(raw))]
    assert numbers == [1, 3, *range(5, 21)]
    events, rejects = read(path)
    assert len(events) == 17
    assert [(r["row"], r["reason"]) for r in rejects] == [
        (2, "undecodable"), (4, "wrong_field_count"), (10, "bad_event_time"),
    ]  # fmt: skip
    assert rejects[0]["detail"].startswith("line 3:")


def test_mixed_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for first, second in (("utf-8", "gb18030"), ("gb18030", "utf-8")):
        head = csv_bytes(ROWS[:10], first)
        tail = csv_bytes(ROWS[10:], second).split(b"\n", 1)[1]
        path.write_bytes(head + tail)
        events, rejects = read(path)
        expected, _ = _utf8(tmp_path)
        assert rejects == []
        assert events.event_key.tolist() == expected.event_key.tolist()


def _utf8(folder: Path) -> tuple[object, object]:
    (folder / "expected.csv").write_bytes(csv_bytes(ROWS))
    return read(folder / "expected.csv")  # type: ignore[return-value]


def test_bytes_of_no_encoding_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    parts = csv_bytes(ROWS).split(b"\n")
    parts[5] = parts[5].replace(b"B0", b"B\xff\xff")
    path.write_bytes(b"\n".join(parts))
    events, rejects = read(path)
    assert len(events) == 19
    assert [(r["row"], r["reason"]) for r in rejects] == [(5, "undecodable")]
    assert "80217610000000041003" in rejects[0]["raw"]


def test_quoted_fields_over_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    parts = csv_bytes(ROWS).decode().split("\n")
    parts[2] = parts[2].replace("企业1", '"企业\n一"')
    parts[5] = parts[5].replace("企业4", '"企,业""4"')
    parts[8] = parts[8].replace("企业0", '企业5"')  # a quote inside a field is itself
    path.write_text("\n".join(parts))
    events, rejects = read(path)
    assert rejects == []
    assert len(events) == 20


def test_a_quote_that_never_ends_takes_one_line_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    parts = csv_bytes(sample_rows(300)).decode().split("\n")
    parts[2] = parts[2].replace("企业1", '"企业1')
    path.write_text("\n".join(parts))
    events, rejects = read(path)
    assert len(events) == 299
    assert [(r["row"], r["reason"]) for r in rejects] == [(2, "unbalanced_quote")]


def test_broken_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    parts = json_bytes(ROWS).split(b"\n")
    parts[1] = b'{"code": '
    parts[3] = b"[1, 2]"
    parts[5] = parts[5].replace(b'"B1"', b'["B1"]')
    parts[7] += parts[7]
    path.write_bytes(b"\n".join(parts))
    events, rejects = read(path)
    assert len(events) == 16
    assert [(r["row"], r["reason"]) for r in rejects] == [
        (2, "bad_json"), (4, "bad_json"), (6, "nested_value"), (8, "bad_json"),
    ]  # fmt: skip
    assert rejects[1]["detail"] == "line 4: expected a JSON object, found list"


def test_json_of_many_types(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    base = {"event_time": "2024-05-10T00:00:00Z", "event_type": 201, "actor_id": 7}
    records: list[dict[str, object]] = [
        {**base, "code": 80217619000000001003, "unit_price": 1.5, "gift": True},
        {**base, "code": "80217619000000001003", "unit_price": "1.50", "gift": None, "x": [1]},
        {**base, "code": "80217619000000001003", "unit_price": 2, "expiry_date": "2025-01-01"},
    ]
    for chosen in (records, records[1:2], records[2:]):
        path.write_text("\n".join(map(json.dumps, chosen)))
        events, rejects = read(path)
        assert rejects == []
        assert set(events.code.tolist()) == {217619000000001003}
        assert set(events.time.tolist()) == {1715328000000000}
        assert events.price.tolist() == [int(100 * float(str(r["unit_price"]))) for r in chosen]


def test_keys_may_turn_up_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1)
    path = tmp_path / "x.ndjson"
    rows = [dict(row) for row in ROWS]
    for row in rows[:10]:
        del row["batch_no"]
    for row in rows[10:]:
        row["批号"] = row.pop("batch_no")
    path.write_bytes(json_bytes(rows))
    events, rejects = read(path)
    assert rejects == []
    assert (events.batch_no >= 0).tolist() == [False] * 10 + [True] * 10


def test_lines_without_end_are_rejected_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 1 << 20)
    for name, data in (("x.csv", csv_bytes(ROWS)), ("x.ndjson", json_bytes(ROWS))):
        parts = data.split(b"\n")
        at = 4 if name == "x.csv" else 3
        parts.insert(at, b"y" * (30 << 20))
        path = tmp_path / (name + ".gz")
        path.write_bytes(gzip.compress(b"\n".join(parts), 1))
        before = pa.total_allocated_bytes()
        events, rejects = read(path)
        assert pa.total_allocated_bytes() - before < 30 << 20
        assert len(events) == 20
        assert [(r["row"], r["reason"]) for r in rejects] == [(4, "line_too_long")]
        assert len(rejects[0]["raw"]) <= 2000


def test_a_long_line_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 1 << 16)
    path = tmp_path / "x.csv"
    path.write_bytes(csv_bytes(ROWS) + b"z" * 100_000)
    events, rejects = read(path)
    assert len(events) == 20
    assert [(r["row"], r["reason"]) for r in rejects] == [(21, "line_too_long")]


def test_rejects_hold_no_numbers_of_persons(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    parts = csv_bytes(ROWS).split(b"\n")
    parts[3] += f",{CARD}".encode()
    path.write_bytes(b"\n".join(parts))
    (tmp_path / "x.ndjson").write_bytes(json_bytes(ROWS) + f'{{"buyer_id": "{CARD}"'.encode())
    for name in ("x.csv", "x.ndjson"):
        source = open_events(tmp_path / name, key=b"k")
        list(source.batches())
        (reject,) = source.rejects.to_pylist()
        assert CARD not in json.dumps(reject)
        assert Pseudonyms(b"k").of(CARD)[:20] in reject["raw"]
        assert source.rejects.schema == REJECTS


def test_reading_again_does_not_count_rejects_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(csv_bytes(ROWS) + b"short\n")
    source = open_events(path)
    for _ in range(2):
        list(source.batches())
        assert source.rejects.num_rows == 1


piece = st.sampled_from(
    [
        b"a",
        b'"',
        b",",
        b"\n",
        b"\r\n",
        b" ",
        "中".encode(),
        "企业".encode("gb18030"),
        b"\xff",
        b'""',
    ]
)


@given(
    data=st.lists(piece, max_size=60).map(b"".join),
    block=st.integers(1, 20),
    quoted=st.booleans(),
)
def test_no_line_is_lost(
    data: bytes, block: int, quoted: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(data)

    def run(size: int) -> tuple[list[int], list[int], bytes]:
        rejects = RejectList()
        reader = LineReader(
            str(path), rejects, Pseudonyms(b"k"), encoding="utf-8",
            delimiter="," if quoted else None, block_bytes=size,
        )  # fmt: skip
        blocks = list(reader.blocks())
        for part in blocks:
            assert part.data.count(b"\n") == len(part.rows) == len(part.lines)
            part.data.decode()
        rows = [r for part in blocks for r in part.rows.tolist()]
        return rows, rejects.row, b"".join(part.data for part in blocks)

    rows, refused_rows, text = run(1 << 20)
    assert sorted(rows + refused_rows) == list(range(1, len(rows) + len(refused_rows) + 1))
    assert run(block) == (rows, refused_rows, text)
    if not quoted:
        whole = data.replace(b"\r\n", b"\n").split(b"\n")
        assert len(rows) + len(refused_rows) == sum(bool(line.strip(b" \r")) for line in whole)


def test_headers_are_all_known() -> None:
    from trace_engine.events.schema import match_headers

    assert list(match_headers(list(HEADERS.values()), "f").columns) == list(HEADERS)


def test_json_of_any_depth_is_one_reject_and_no_crash(tmp_path: Path) -> None:
    # Arrow's parser takes a call a level and would end the process.
    deep = [b'{"a":' * 400_000, b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}"]
    path = tmp_path / "x.ndjson"
    path.write_bytes(json_bytes(ROWS) + b"\n".join(deep) + b"\n")
    events, rejects = read(path)
    assert len(events) == len(ROWS)
    assert [reject["reason"] for reject in rejects] == ["bad_json", "bad_json"]
    # In the first lines too, from which the keys are learnt.
    path.write_bytes(b'{"a":' * 5000 + b"\n" + json_bytes(ROWS))
    events, rejects = read(path)
    assert (len(events), len(rejects)) == (len(ROWS), 1)


def test_many_brackets_side_by_side_are_no_depth(tmp_path: Path) -> None:
    rows = json_bytes(ROWS).splitlines()
    rows[3] = rows[3][:-1] + b', "rest": [' + b", ".join([b"{}"] * 2000) + b"]}"
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"\n".join(rows))
    events, rejects = read(path)
    assert (len(events), len(rejects)) == (len(ROWS), 0)


def test_binary_data_is_not_shown_as_headers(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\x00\x01\x1b[31mabc,def\n1,2\n")
    assert "binary data" in refused(path)
    write_parquet(path, ROWS)
    assert "binary data" in refused(path, format="csv")


def test_pipes_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    os.mkfifo(path)
    assert "pipe" in refused(path)


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="cannot be opened") as caught:
        open_events(tmp_path)
    assert "无法打开" in (caught.value.zh or "")


def test_wrong_dates_are_shown_as_they_stand(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "event_time": text} for text in ("9999-12-31", "20240230", "1715331435")]
    path = tmp_path / "x.csv"
    path.write_bytes(csv_bytes(rows))
    _, rejects = read(path)
    for row, reject in zip(rows, rejects, strict=True):
        assert f"found '{row['event_time']}'" in str(reject["detail"])
    path.write_bytes(csv_bytes([{**ROWS[0], "event_time": "13812345678"}]))
    (reject,) = read(path)[1]
    assert "13812345678" not in str(reject["detail"])


def test_rejects_are_packed_and_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "_PACKED_ROWS", 7)
    monkeypatch.setattr(raw, "RAW_ROWS", 10)
    rejects = RejectList()
    for row in range(1, 24):
        rejects.add("f", row, "", "reason", "detail", f"row {row}")
        assert len(rejects) == row
        assert len(rejects.row) < 7
    table = rejects.table()
    assert table.schema == REJECTS
    assert table["row"].to_pylist() == list(range(1, 24))
    assert table["raw"].to_pylist() == [f"row {i}" for i in range(1, 11)] + [None] * 13


@pytest.mark.parametrize("first", [b"null", b"true", b"3", b' "text"'])
def test_a_first_line_that_is_no_object_is_one_reject(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(first + b"\n" + json_bytes(ROWS))
    events, rejects = read(path)
    assert len(events) == len(ROWS)
    assert [(row["row"], row["reason"]) for row in rejects] == [(1, "bad_json")]

from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.readers.files import (
    csv_bytes,
    encoded,
    json_bytes,
    read,
    sample_rows,
    write_gzip,
    write_parquet,
    write_zstd,
)
from trace_engine.events.batch import COLUMN_TYPES, DAY
from trace_engine.readers import InputError, file_digest, open_events

ROWS = sample_rows(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forms")
    write_parquet(root / "a.parquet", ROWS, row_group_size=77)
    (root / "b.csv").write_bytes(csv_bytes(ROWS))
    (root / "bom.csv").write_bytes(csv_bytes(ROWS, "utf-8-sig"))
    (root / "crlf.csv").write_bytes(csv_bytes(ROWS, end="\r\n"))
    (root / "cr.csv").write_bytes(csv_bytes(ROWS, end="\r"))
    (root / "gb.csv").write_bytes(csv_bytes(ROWS, "gb18030"))
    (root / "utf16.csv").write_bytes(csv_bytes(ROWS, "utf-16"))
    (root / "c.tsv").write_bytes(csv_bytes(ROWS, delimiter="\t"))
    (root / "semicolon.csv").write_bytes(csv_bytes(ROWS, delimiter=";"))
    (root / "sep.csv").write_bytes(b"sep=|\n" + csv_bytes(ROWS, delimiter="|"))
    (root / "no extension").write_bytes(csv_bytes(ROWS))
    (root / "really.csv").write_bytes((root / "a.parquet").read_bytes())
    (root / "d.ndjson").write_bytes(json_bytes(ROWS))
    (root / "blank.jsonl").write_bytes(b"\n" + json_bytes(ROWS).replace(b"\n", b"\n\n"))
    write_gzip(root / "e.csv.gz", csv_bytes(ROWS, "gb18030"))
    write_gzip(root / "f.jsonl.gz", json_bytes(ROWS))
    write_zstd(root / "g.csv.zst", csv_bytes(ROWS))
    write_zstd(root / "h.ndjson.zst", json_bytes(ROWS))
    half = csv_bytes(ROWS)
    (root / "members.csv.gz").write_bytes(gzip.compress(half[:999]) + gzip.compress(half[999:]))
    return root


def test_every_form_gives_the_same_events(folder: Path) -> None:
    expected, rejects = read(folder / "a.parquet")
    assert len(expected) == 300
    assert rejects == []
    files = sorted(folder.iterdir())
    assert len(files) == 19
    for path in files:
        found, rejects = read(path)
        assert rejects == [], path
        for name in COLUMN_TYPES:
            assert getattr(found, name).tolist() == getattr(expected, name).tolist(), (path, name)


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_batch_size_changes_nothing(folder: Path, batch_rows: int) -> None:
    for name in ("a.parquet", "gb.csv", "d.ndjson"):
        source = open_events(folder / name, batch_rows=batch_rows)
        raws = list(source.batches())
        assert max(len(raw) for raw in raws) <= batch_rows
        numbers = [raw.row_number(i) for raw in raws for i in range(len(raw))]
        assert numbers == list(range(1, 301))
        assert [n for raw in raws for n in raw.row_numbers().tolist()] == numbers
        found, _ = encoded(source)
        expected, _ = read(folder / "a.parquet")
        assert found.event_key.tolist() == expected.event_key.tolist()


def test_folders_patterns_and_lists(tmp_path: Path) -> None:
    (tmp_path / "2024" / "05").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    write_parquet(tmp_path / "2024" / "x.parquet", ROWS[:10])
    (tmp_path / "2024" / "05" / "y.CSV").write_bytes(csv_bytes(ROWS[10:30]))
    (tmp_path / "2024" / "readme.md").write_text("not events")
    (tmp_path / ".hidden" / "z.csv").write_text("not read")
    (tmp_path / "2024" / "_SUCCESS.csv").write_text("")
    source = open_events(tmp_path)
    assert [Path(f).name for f in source.files] == ["y.CSV", "x.parquet"]
    assert len(encoded(source)[0]) == 30
    twice = open_events([tmp_path, tmp_path / "2024" / "x.parquet", str(tmp_path / "**/*.CSV")])
    assert twice.files == source.files
    assert twice.size_bytes > 0


def test_units_are_row_groups_with_their_times(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    hours = [datetime(2024, 5, 1, h) for h in range(10)]  # noqa: DTZ001
    for kind, shift in ((pa.timestamp("us"), 0), (pa.timestamp("ms", tz="UTC"), 8),
                        (pa.timestamp("ns"), 0)):  # fmt: skip
        columns = {name: ["201"] * 10 for name in ("event_type", "code", "actor_id")}
        table = pa.table({"event_time": pa.array(hours, pa.timestamp("us")).cast(kind), **columns})
        pq.write_table(table, path, row_group_size=4)
        units = open_events(path).units
        assert [u.rows for u in units] == [4, 4, 2]
        day = (date(2024, 5, 1) - date(1970, 1, 1)).days * DAY
        hour = DAY // 24
        assert [u.first_time for u in units] == [day + (h + shift) * hour for h in (0, 4, 8)]
        assert [u.last_time for u in units] == [day + (h + shift) * hour for h in (3, 7, 9)]
        times = [
            t for u in units for raw in u.batches() for t in raw.batch["event_time"].to_pylist()
        ]
        assert len(times) == 10


def test_times_of_dates_and_of_text(tmp_path: Path) -> None:
    columns = {name: ["201"] for name in ("event_type", "code", "actor_id")}
    day = date(2024, 5, 1)
    pq.write_table(pa.table({"event_time": [day], **columns}), tmp_path / "d.parquet")
    (unit,) = open_events(tmp_path / "d.parquet").units
    assert unit.first_time == unit.last_time == (day - date(1970, 1, 1)).days * DAY
    write_parquet(tmp_path / "t.parquet", ROWS[:1])
    (unit,) = open_events(tmp_path / "t.parquet").units
    assert unit.first_time is None


def test_units_can_be_read_again_and_apart(folder: Path) -> None:
    source = open_events(folder / "a.parquet")
    last = source.units[-1]
    first = [raw.row_number(0) for raw in last.batches()]
    assert first == [raw.row_number(0) for raw in last.batches()] == [232]


def test_labels_come_as_dictionaries(folder: Path) -> None:
    raw = next(open_events(folder / "a.parquet").batches())
    assert pa.types.is_dictionary(raw.batch.schema.field("actor_id").type)
    assert pa.types.is_string(raw.batch.schema.field("code").type)


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    columns = {name: ["201"] for name in ("event_time", "event_type", "code", "actor_id")}
    table = pa.table({**columns, "remarks": [["nested", "list"]]})
    pq.write_table(table, tmp_path / "x.parquet")
    raw = next(open_events(tmp_path / "x.parquet").batches())
    assert raw.batch.schema.names == ["event_time", "event_type", "code", "actor_id"]
    line = b"event_time,event_type,code,actor_id,remarks,remarks\n2024-05-10,201,8,A,x,y\n"
    (tmp_path / "x.csv").write_bytes(line)
    raw = next(open_events(tmp_path / "x.csv").batches())
    assert raw.batch.schema.names == ["event_time", "event_type", "code", "actor_id"]


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(str(tmp_path / "x")) == expected


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(csv_bytes(ROWS[:3], delimiter="\t"))
    assert len(read(tmp_path / "x.dat", format="tsv")[0]) == 3
    with pytest.raises(InputError, match="expected one of auto"):
        open_events(tmp_path / "x.dat", format="xlsx")

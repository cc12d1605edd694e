from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run
from trace_engine.events.schema import CANONICAL

HEADER = "追溯码,单据类型,发货企业,收货企业,单据日期,单价,操作企业,有效期至,购买人,体温"
ROWS = [
    "81234567890123456789,销售出库,甲,乙,2025-03-01,12.5,甲,2027-05,,",
    "81234567890123456789,102,甲,乙,2025-03-02 08:30:00,12.50,乙,2027-05-31,,",
    "81234567890123456789,零售出库,乙,,2025-03-03 10:00:00,¥15,乙,,110101199003074514,",
    "81234567890123456789,神秘单据,乙,,2025-03-04,,乙,,p-1,",
    ",销售出库,甲,乙,2025-03-01,1,甲,,,",
    "81234567890123456780,销售出库,甲,乙,2025-13-01,1,甲,,,",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_bytes("\n".join([HEADER, *ROWS]).encode("gb18030"))
    return path


def test_chinese_csv_to_canonical_parquet(cli: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "events.parquet"
    done = cli("convert", source, "--out", out)
    assert done.code == 1
    assert "4 rows written" in done.out
    assert "2 rows were rejected" in done.err
    table = pq.read_table(out)
    assert table.schema.equals(CANONICAL)
    rows = table.to_pylist()
    assert [row["event_type"] for row in rows] == [
        "sale_shipment", "purchase_receipt", "retail_sale", "神秘单据",
    ]  # fmt: skip
    assert [str(row["unit_price"]) for row in rows] == ["12.50", "12.50", "15.00", "None"]
    assert [row["expiry_date"] for row in rows] == ["2027-05", "2027-05-31", None, None]
    assert rows[0]["event_time"].isoformat() == "2025-03-01T00:00:00+08:00"
    assert rows[0]["event_id"] is None
    assert "110101199003074514" not in str(rows)
    assert rows[3]["buyer_id"] == "p-1"
    rejects = pq.read_table(tmp_path / "new" / "events.parquet.rejects.parquet").to_pylist()
    assert [(row["row"], row["reason"]) for row in rejects] == [
        (5, "missing_code"), (6, "bad_event_time"),
    ]  # fmt: skip
    assert {path.name for path in out.parent.iterdir()} == {out.name, f"{out.name}.rejects.parquet"}


def test_every_format_comes_back_the_same(cli: Run, source: Path, tmp_path: Path) -> None:
    first = tmp_path / "a.parquet"
    cli("convert", source, "--out", first)
    expected = pq.read_table(first)
    for name in ("b.csv", "c.ndjson", "d.parquet"):
        assert cli("convert", first, "--out", tmp_path / name).code == 0
        again = tmp_path / f"{name}.parquet"
        assert cli("convert", tmp_path / name, "--out", again).code == 0
        assert pq.read_table(again).equals(expected), name
    lines = (tmp_path / "c.ndjson").read_text().splitlines()
    assert json.loads(lines[0])["unit_price"] == 12.5
    with (tmp_path / "b.csv").open() as file:
        assert next(csv.reader(file)) == CANONICAL.names


def test_an_existing_file_is_kept_unless_forced(cli: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    out.write_text("mine")
    done = cli("convert", source, "--out", out)
    assert done.code == 2
    assert "add --force" in done.err
    assert out.read_text() == "mine"
    assert cli("convert", source, "--out", out, "--force").code == 1


def test_a_failure_leaves_nothing_behind(cli: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    pq.write_table(pa.table({"code": ["x"]}), broken)
    broken.write_bytes(broken.read_bytes()[:-20])
    done = cli("convert", broken, "--out", tmp_path / "out.csv")
    assert done.code == 2
    assert "broken.parquet" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["broken.parquet"]

"""Reading a registry folder: what is refused, what is a problem, what is kept."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.registry import Registry, RegistryError
from trace_engine.registry.tables import SCHEMAS

ENTERPRISES = (
    "enterprise_id,name,uscc,type,region,licence_no,licence_to,warehouse_regions,group_id,remark\n"
    "W1,甲医药,91110108551385082Q,wholesaler,110108,京AA010000001,2029-05-01,110105;310101,,x\n"
    "H1,乙连锁,,chain_hq,370102,鲁BA531000001,长期,370202,G1,\n"
    "S1,乙连锁一店,,chain_store,370303,鲁CA532000001,2028/1/2,,G1,\n"
)


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    (folder / f"{name}.csv").write_text(text, encoding=encoding)


def test_a_clean_folder_has_no_problems(tmp_path: Path) -> None:
    write(tmp_path, "enterprises", ENTERPRISES)
    registry = Registry.load(tmp_path)
    assert registry.problems == []
    table = registry.table("enterprises")
    assert table is not None
    assert table.num_rows == 3
    assert table.column("remark").to_pylist()[0] == "x"  # unknown columns are kept
    assert table.column("licence_to").to_pylist() == [
        dt.date(2029, 5, 1), None, dt.date(2028, 1, 2)
    ]  # fmt: skip
    assert registry.has("enterprises")
    assert not registry.has("drugs")
    assert registry.table("drugs") is None


def test_no_folder_is_an_empty_registry() -> None:
    registry = Registry.load(None)
    assert not registry.has("enterprises")
    assert registry.content_hash == Registry().content_hash == "none"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_encodings_and_chinese_headers(tmp_path: Path, encoding: str) -> None:
    text = "企业编码,企业名称,企业类型,行政区划代码\nE1,某药店,零售药店,370102\n"
    write(tmp_path, "enterprises", text, encoding)
    registry = Registry.load(tmp_path)
    assert registry.problems == []
    table = registry.table("enterprises")
    assert table is not None
    assert table.column("name").to_pylist() == ["某药店"]
    assert table.column("region").to_pylist() == ["370102"]


def test_parquet_and_csv_of_one_content_have_one_hash(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write(tmp_path / "a", "recalls", "drug_id,effective,level\n8000001,2026-01-02,1\n")
    table = pa.table(
        {"drug_id": ["8000001"], "effective": [dt.date(2026, 1, 2)], "level": pa.array([1])}
    )
    pq.write_table(table, tmp_path / "b" / "recalls.parquet")
    first, second = Registry.load(tmp_path / "a"), Registry.load(tmp_path / "b")
    assert first.content_hash == second.content_hash
    write(tmp_path / "a", "recalls", "drug_id,effective,level\n8000001,2026-01-03,1\n")
    assert Registry.load(tmp_path / "a").content_hash != first.content_hash


def test_parquet_types_are_read_for_what_they_mean(tmp_path: Path) -> None:
    table = pa.table(
        {
            "enterprise_id": pa.array(["E1", "E2"]).dictionary_encode(),
            "region": pa.array([370102.0, 110108.0]),
            "warehouse_regions": pa.array([["370202", "370102"], None]),
            "licence_from": pa.array([dt.date(2025, 1, 2), None]).cast(pa.timestamp("us")),
        }
    )
    pq.write_table(table, tmp_path / "enterprises.parquet")
    read = Registry.load(tmp_path).table("enterprises")
    assert read is not None
    assert read.column("enterprise_id").to_pylist() == ["E1", "E2"]
    assert read.column("region").to_pylist() == ["370102", "110108"]
    assert read.column("warehouse_regions").to_pylist() == ["370202;370102", None]
    assert read.column("licence_from").to_pylist() == [dt.date(2025, 1, 2), None]


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("recalls", "drug_id,effective\n8000001,2026-13-01\n",
         ["row 1", "effective", "2026-13-01"]),
        ("recalls", "drug_id,level\n8000001,1\n", ["header", "effective"]),
        ("recalls", "", ["empty file"]),
        ("recalls", "drug_id,effective\n8000001\n", ["cannot be read"]),
        ("drugs", "drug_id,药品编码\n1,2\n", []),
        ("inspections", "enterprise_id,date,outcome,inclusion_probability\nE,2026-01-01,clean,x\n",
         ["row 1", "inclusion_probability", "a number"]),
    ],
)  # fmt: skip
def test_unusable_files_end_in_one_line(
    tmp_path: Path, name: str, text: str, parts: list[str]
) -> None:
    write(tmp_path, name, text)
    if not parts:  # a second header of one column is kept under its own name
        table = Registry.load(tmp_path).table(name)
        assert table is not None
        assert table.column_names == ["drug_id", "药品编码"]
        return
    with pytest.raises(RegistryError) as caught:
        Registry.load(tmp_path)
    message, zh = str(caught.value), caught.value.zh
    assert "\n" not in message + zh
    assert f"{name}.csv" in message
    assert f"{name}.csv" in zh
    assert any("\u4e00" <= letter <= "\u9fff" for letter in zh)
    for part in parts:
        assert part in message


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no such folder"):
        Registry.load(tmp_path / "missing")
    with pytest.raises(RegistryError, match="no registry file"):
        Registry.load(tmp_path)
    (tmp_path / "drugs.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(RegistryError, match=r"drugs\.parquet: cannot be read"):
        Registry.load(tmp_path)
    write(tmp_path, "drugs", "drug_id\n1\n")
    with pytest.raises(RegistryError, match="found both"):
        Registry.load(tmp_path)
    (tmp_path / "drugs.parquet").unlink()
    (tmp_path / "drugs.csv").write_bytes(b"drug_id,name\n1,\xff\xff\n")
    with pytest.raises(RegistryError, match="neither UTF-8 nor GB18030"):
        Registry.load(tmp_path)


def test_problems_are_collected(tmp_path: Path) -> None:
    write(
        tmp_path,
        "enterprises",
        "enterprise_id,uscc,type,region,licence_no,licence_from,licence_to,status\n"
        "E1,91110108551385082A,wholesaler,110108,京AA010000001,2025-01-01,2024-01-01,active\n"
        "E1,,pharmacy,370102,鲁AA531000001,,,active\n"
        "E3,91110108551385082Q,shop,379999,鲁DA531000001,,,open\n"
        ",,,,,,,\n",
    )
    write(tmp_path, "drugs", "drug_id,approval_no\n06970593810108,国药准字H1\n")
    write(tmp_path, "recalls", "drug_id,effective,level,range_region\n8000001,,4,某地\n")
    found = {(p.file, p.row, p.column) for p in Registry.load(tmp_path).problems}
    assert found == {
        ("enterprises.csv", 1, "uscc"),
        ("enterprises.csv", 1, "licence_to"),
        ("enterprises.csv", 2, "enterprise_id"),
        ("enterprises.csv", 2, "licence_no"),  # a wholesaler's letter
        ("enterprises.csv", 3, "type"),
        ("enterprises.csv", 3, "status"),
        ("enterprises.csv", 3, "region"),
        ("enterprises.csv", 3, "uscc"),  # Beijing's code, a place in Shandong
        ("enterprises.csv", 4, "enterprise_id"),
        ("drugs.csv", 1, "drug_id"),
        ("drugs.csv", 1, "approval_no"),
        ("recalls.csv", 1, "effective"),
        ("recalls.csv", 1, "level"),
        ("recalls.csv", 1, "range_region"),
    }
    for problem in Registry.load(tmp_path).problems:
        assert "\n" not in str(problem) + problem.zh
        assert any("\u4e00" <= letter <= "\u9fff" for letter in problem.expected_zh)
        assert problem.file in problem.zh


def test_problems_of_licences_and_territories(tmp_path: Path) -> None:
    write(
        tmp_path,
        "enterprises",
        "enterprise_id,status,status_date\nE1,注销,2026-01-01\nE2,suspended,\nE3,active,\n",
    )
    write(
        tmp_path, "territories", "drug_id,enterprise_id,region\n8000001,,\n8000001,E1,\n,,370000\n"
    )
    write(tmp_path, "licence_events", "enterprise_id,kind,date\nE1,,2026-01-01\nE1,变更,\n")
    found = {(p.file, p.row, p.column) for p in Registry.load(tmp_path).problems}
    assert found == {
        ("enterprises.csv", 2, "status_date"),
        ("territories.csv", 1, "region"),
        ("territories.csv", 3, "drug_id"),
        ("licence_events.csv", 1, "kind"),
        ("licence_events.csv", 2, "date"),
    }


def test_tables_can_be_given_in_memory() -> None:
    registry = Registry({"drugs": pa.table({"drug_id": ["8000001"], "classes": ["rx"]})})
    assert registry.has("drugs")
    with pytest.raises(RegistryError, match="found tables pills"):
        Registry({"pills": pa.table({"drug_id": ["1"]})})
    with pytest.raises(RegistryError, match="expected a column drug_id"):
        Registry({"drugs": pa.table({"id": ["1"]})})


@given(st.binary(max_size=200), st.sampled_from(sorted(SCHEMAS)))
def test_any_bytes_end_in_one_line_or_in_a_table(data: bytes, name: str) -> None:
    required = [column for column, spec in SCHEMAS[name].items() if spec.required]
    with tempfile.TemporaryDirectory() as folder:
        for start in (b"", ",".join(required).encode() + b"\n"):
            (Path(folder) / f"{name}.csv").write_bytes(start + data)
            refusal, table = "", None
            try:
                table = Registry.load(folder).table(name)
            except RegistryError as error:
                refusal = str(error)
            if refusal:
                assert "\n" not in refusal
                assert f"{name}.csv" in refusal
            else:
                assert table is not None
                assert set(required) <= set(table.column_names)

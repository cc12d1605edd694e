from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.reports.tables import FORMULA_STARTS, cell, safe_text, write_csv


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_text_that_begins_like_a_formula_is_made_harmless(start: str) -> None:
    assert safe_text(f"{start}1+1") == f"'{start}1+1"


@given(st.text())
def test_no_text_begins_like_a_formula(text: str) -> None:
    safe = safe_text(text)
    assert not safe.startswith(FORMULA_STARTS)
    assert safe.removeprefix("'") == text.replace("\x00", "").removeprefix("'")


def test_numbers_are_left_alone() -> None:
    assert cell(-5) == -5
    assert cell(-0.25) == -0.25
    assert cell(None) == ""
    assert cell(True) == "true"
    assert cell(["=a", "-b"]) == "'=a; '-b"


def test_file_opens_in_a_spreadsheet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "name": ["@SUM(A1)", "药房\n二", 'quote "x", comma'],
            "n": [-1, 2, None],
            "codes": [["81", "82"], [], None],
            "counts": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        }
    )
    path = tmp_path / "t.csv"
    write_csv(table, path, {"name": "企业"})
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows == [
        ["企业", "n", "codes", "counts"],
        ["'@SUM(A1)", "-1", "81; 82", '{"a":1}'],
        ["药房\n二", "2", "", ""],
        ['quote "x", comma', "", "", ""],
    ]

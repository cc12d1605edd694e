"""``docs/events.md`` names every reason, limit and form that the code has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from trace_engine.events import assemble, parsing, privacy, raw
from trace_engine.events.schema import COLUMNS
from trace_engine.readers import lines, text

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")


POSITIONS = {"mark": 2, "_reject": 0, "add": 3}  # argument that is the reason, by method


def reasons() -> set[str]:
    """Return every fixed reason that a reader or the encoder can give, as its source says."""
    found: set[str] = set()
    names = ("events/assemble.py", "readers/lines.py", "readers/text.py", "readers/ndjson.py")
    for name in names:
        source = (ROOT / "trace_engine" / name).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                values = node.args[POSITIONS.get(node.func.attr, 99) :][:1]
            elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                values = node.value.elts[1:2]
            found |= {
                v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)
            }
    return found - {""}


def test_every_reason_is_explained() -> None:
    documented = set(re.findall(r"`(\w+)`", PAGE.split("## Reasons for a reject")[1]))
    found = reasons()
    assert {
        "missing_code",
        "lost_digits",
        "line_too_long",
        "bad_json",
        "wrong_field_count",
    } <= found
    assert found <= documented


@pytest.mark.parametrize("name", ["bad_", "absurd_", "missing_"])
def test_reasons_by_column_name_a_column(name: str) -> None:
    columns = {column.name for column in COLUMNS} | {"json", "price", "type", "actor"}
    documented = re.findall(rf"`{name}(\w+)`", PAGE)
    assert documented
    assert set(documented) <= columns


def test_limits_are_current() -> None:
    assert f"{lines.LINE_LIMIT >> 20} MiB" in PAGE
    assert f"{lines.JOINED_LINES} lines" in PAGE
    assert f"{raw.RAW_ROWS:,}".replace(",", " ") in PAGE
    assert f"{raw.RAW_LIMIT:,}".replace(",", " ") in PAGE
    assert assemble.MAXIMUM_PRICE == 10_000_000 * 100
    assert assemble.MAXIMUM_QUANTITY == 10_000_000
    assert PAGE.count("10 million") == 2
    assert parsing.LAST_TIME - parsing.FIRST_TIME == 36_525 * 86_400_000_000
    assert privacy.KEY_VARIABLE in PAGE
    assert all(f"`{null}`" in PAGE for null in text.NULLS if null)

"""The line finder agrees with the parser on what keys there are, wherever they stand."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trace_engine.policy.files import policies_folder
from trace_engine.policy.lines import key_lines, line_of

EXAMPLE = '''# comment with [brackets] and "quotes
[a]
x = 1 # [not.a.table]
"y z" = """
[no.table]
k = 1
"""
dotted.key = [
    1, # ]
    "]",
]
[[a.list]]
v = { p = 1, q = "}" }
[[a.list]]
v = 'x = 1'
[a.list.sub]
w = 2
'''


def test_lines_of_an_awkward_document() -> None:
    tomllib.loads(EXAMPLE)
    lines = key_lines(EXAMPLE)
    assert lines[("a",)] == 2
    assert lines[("a", "x")] == 3
    assert lines[("a", "y z")] == 4
    assert lines[("a", "dotted", "key")] == 8
    assert lines[("a", "list", 0)] == 12
    assert lines[("a", "list", 0, "v")] == 13
    assert lines[("a", "list", 1, "v")] == 15
    assert lines[("a", "list", 1, "sub", "w")] == 17
    assert ("no", "table") not in lines
    assert line_of(lines, ("a", "list", 0, "v", "p")) == 13
    assert line_of(lines, ("nowhere",)) == 1


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in ((*at, k), *paths(v, (*at, k)))]
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return [p for i, v in enumerate(value) for p in paths(v, (*at, i))]
    return []


names = st.sampled_from(["a", "b", "long_name", '"quoted key"'])
scalars = st.sampled_from(
    ["1", '"text # no comment"', "'it]s'", "2026-01-01", '[1, # x\n "]"]', '"""\nb = 1\n"""']
)


@given(st.lists(st.tuples(names, st.dictionaries(names, scalars, max_size=4)), max_size=5))
def test_every_key_of_a_random_document_has_its_line(
    tables: list[tuple[str, dict[str, str]]],
) -> None:
    text = "\n".join(
        f"[[{name}]] # here\n" + "\n".join(f"{k} = {v}" for k, v in body.items())
        for name, body in tables
    )
    lines = key_lines(text)
    rows = text.splitlines()
    for path in paths(tomllib.loads(text)):
        if isinstance(path[-1], str) and len(path) > 1:
            assert rows[lines[path] - 1].strip().strip('"').startswith(path[-1])


def test_every_key_of_the_shipped_files_has_its_line() -> None:
    for file in sorted(policies_folder().rglob("*.toml")):
        text = file.read_text(encoding="utf-8")
        lines, rows = key_lines(text), text.splitlines()
        for path in paths(tomllib.loads(text)):
            assert str(path[-1]) in rows[line_of(lines, path) - 1], (file, path)

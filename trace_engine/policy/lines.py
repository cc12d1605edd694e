"""Find the line of every key of a TOML file (the standard parser does not keep them)."""

from __future__ import annotations

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]

_KEY = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")
_MULTILINE = ('"""', "'''")


def key_lines(text: str) -> dict[Path, int]:
    """Return the line (from 1) of each table header and key of a valid TOML document.

    Elements of arrays of tables are numbered: ``("quotas", 0, "per_sale")``. Keys inside inline
    tables and arrays have no line of their own; look them up with :func:`line_of`.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    position, number = 0, 1
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end].strip()
        if line.startswith("["):
            double = line.startswith("[[")
            table = _header(line[2:] if double else line[1:], counts, double)
            for depth in range(1, len(table) + 1):
                lines.setdefault(table[:depth], number)
        elif line and not line.startswith("#"):
            keys, start = _dotted(text, position)
            path = (*table, *keys)
            for depth in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:depth], number)
            end = _end_of_value(text, start)
        number += text.count("\n", position, min(end + 1, len(text)))
        position = end + 1
    return lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """Return the line of ``path`` or of the nearest thing around it that has one; 1 if none."""
    for depth in range(len(path), 0, -1):
        if path[:depth] in lines:
            return lines[path[:depth]]
    return 1


def _header(rest: str, counts: dict[Path, int], double: bool) -> Path:
    """Return the path of a table header, with the numbers of the arrays it lies in."""
    keys, _ = _dotted(rest, 0)
    path: Path = ()
    for key in keys[:-1]:
        path = (*path, key)
        if path in counts:
            path = (*path, counts[path])
    path = (*path, keys[-1])
    if double:
        counts[path] = counts.get(path, -1) + 1
        return (*path, counts[path])
    return (*path, counts[path]) if path in counts else path


def _dotted(text: str, start: int) -> tuple[list[str], int]:
    """Read ``a."b".c`` and return the keys and where the text goes on."""
    keys: list[str] = []
    while match := _KEY.match(text, start):
        keys.append(match[1].strip("\"'"))
        start = match.end()
        if start >= len(text) or text[start] != ".":
            break
        start += 1
    return keys, start


def _end_of_value(text: str, start: int) -> int:
    """Return the position of the newline that ends the value beginning after ``start``."""
    depth, i = 0, start
    while i < len(text):
        character = text[i]
        if text[i : i + 3] in _MULTILINE:
            closing = text.find(text[i : i + 3], i + 3)
            i = len(text) if closing < 0 else closing + 3
            continue
        if character in "\"'":
            i = _end_of_string(text, i)
            continue
        if character == "#":
            newline = text.find("\n", i)
            i = len(text) if newline < 0 else newline
            continue
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "\n" and depth <= 0:
            return i
        i += 1
    return len(text)


def _end_of_string(text: str, start: int) -> int:
    quote, i = text[start], start + 1
    while i < len(text) and text[i] != quote and text[i] != "\n":
        i += 2 if text[i] == "\\" and quote == '"' else 1
    return min(i + 1, len(text))

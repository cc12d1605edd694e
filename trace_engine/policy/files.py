"""Read policy files: TOML with ``extends`` and list files, every value with its file and line."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trace_engine.policy.errors import PolicyError
from trace_engine.policy.lines import Path as KeyPath
from trace_engine.policy.lines import key_lines, line_of
from trace_engine.policy.values import FIRST_DAY, Period, QuotaEntry, Rule, day_number

# Sections whose values are parameters; detectors have one more level, the detector's id.
FLAT_SECTIONS = ("general", "ranking", "sampling")
_HEAD_KEYS = {
    "name": str,
    "version": str,
    "title_zh": str,
    "title_en": str,
    "extends": str,
    "lists": list,
    "history_from": dt.date,
}
_PERIOD_KEYS = {"value", "unit", "source", "effective_from", "effective_to", "note"}
_SYNTAX_LINE = re.compile(r"\(at line (\d+), column (\d+)\)|\(at end of document\)")

Key = tuple[str, ...]  # ("detectors", id, parameter) or (section, parameter)
T = TypeVar("T")


@dataclass
class Contents:
    """Everything one policy file and the files it names say."""

    head: dict[str, Any] = field(default_factory=dict)
    periods: dict[Key, list[Period]] = field(default_factory=dict)
    quotas: list[QuotaEntry] = field(default_factory=list)
    rules: dict[str, Rule] = field(default_factory=dict)


def policies_folder() -> Path:
    """Return the folder of shipped policies: in the wheel, or ``models/`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_models", package.parent / "models"):
        if (folder / "policies").is_dir():
            return folder / "policies"
    raise PolicyError(f"{package}: found no model library, expected _models/policies beside it")


def read_policy(path: Path, visited: tuple[Path, ...] = ()) -> Contents:
    """Read a policy file with the policy it extends and the lists it names."""
    document = _Document(path)
    if path.resolve() in visited:
        raise document.error(("policy", "extends"), "found a circle of policies", "none")
    own = _parse_head(document)
    base = Contents()
    if "extends" in own:
        parent = resolve(own["extends"], path.parent)
        if parent is None:
            shipped = ", ".join(sorted(p.stem for p in policies_folder().glob("*.toml")))
            raise document.error(
                ("policy", "extends"), f"found {own['extends']!r}", f"a file or one of {shipped}"
            )
        base = read_policy(parent, (*visited, path.resolve()))
    quotas, rules = _lists_of(document, ())
    for name in own.get("lists", []):
        if not isinstance(name, str) or not (path.parent / name).is_file():
            raise document.error(
                ("policy", "lists"), f"found {name!r}", f"a file beside {path.name}"
            )
        listed = _Document(path.parent / name)
        more_quotas, more_rules = _lists_of(listed, ("quotas", "rules"))
        quotas += more_quotas
        rules += more_rules
    out = Contents(head={**base.head, **own})
    out.periods = {**base.periods, **_parse_values(document)}
    _refuse_overlapping_quotas(quotas)
    replaced = {entry.class_name for entry, _ in quotas}
    out.quotas = [entry for entry in base.quotas if entry.class_name not in replaced]
    out.quotas += [entry for entry, _ in quotas]
    places: dict[str, str] = {}
    for rule, place in rules:
        if rule.id in places:
            raise PolicyError(
                f"{place}: rules: found the id {rule.id!r} of {places[rule.id]} again, "
                "expected every id once"
            )
        places[rule.id] = place
    out.rules = {**base.rules, **{rule.id: rule for rule, _ in rules}}
    return out


def resolve(name: str, folder: Path | None = None) -> Path | None:
    """Return the file a policy's name or path means, or None."""
    candidates = [Path(name)] if folder is None else [folder / name]
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        candidates.append(policies_folder() / f"{name}.toml")
    return next((path for path in candidates if path.is_file()), None)


class _Document:
    """A parsed TOML file that knows its lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except OSError as error:
            raise PolicyError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise PolicyError(
                f"{path}: found a byte that is not UTF-8 at offset {error.start}, expected UTF-8"
            ) from None
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _syntax_error(path, text, str(error)) from None
        self.lines = key_lines(text)

    def line(self, key: KeyPath) -> int:
        return line_of(self.lines, key)

    def error(self, key: KeyPath, found: str, expected: str) -> PolicyError:
        name = ".".join(str(part) for part in key)
        return PolicyError(f"{self.path}:{self.line(key)}: {name}: {found}, expected {expected}")


def _syntax_error(path: Path, text: str, message: str) -> PolicyError:
    match = _SYNTAX_LINE.search(message)
    line = int(match[1]) if match and match[1] else max(1, text.rstrip("\n").count("\n") + 1)
    rows = text.splitlines() or [""]
    shown = rows[min(line, len(rows)) - 1].strip()[:80]
    reason = _SYNTAX_LINE.sub("", message).strip()
    return PolicyError(f"{path}:{line}: found {shown!r}, expected valid TOML ({reason})")


def _parse_head(document: _Document) -> dict[str, Any]:
    sections = {"policy", "detectors", "quotas", "rules", *FLAT_SECTIONS}
    for key in document.data:
        if key not in sections:
            raise document.error((key,), "found an unknown section", _one_of(sections))
    head = document.data.get("policy", {})
    if not isinstance(head, dict):
        raise document.error(("policy",), f"found {_shown(head)}", "a table [policy]")
    for key, value in head.items():
        kind = _HEAD_KEYS.get(key)
        if kind is None:
            raise document.error(("policy", key), "found an unknown key", _one_of(_HEAD_KEYS))
        if not isinstance(value, kind) or isinstance(value, dt.datetime):
            expected = {str: "text", list: "a list of files", dt.date: "a date"}[kind]
            raise document.error(("policy", key), f"found {_shown(value)}", expected)
    if "name" not in head:
        raise document.error(("policy",), "found no name", 'name = "…" in [policy]')
    return dict(head)


def _parse_values(document: _Document) -> dict[Key, list[Period]]:
    found: dict[Key, list[Period]] = {}
    for section in ("detectors", *FLAT_SECTIONS):
        body = document.data.get(section, {})
        if not isinstance(body, dict):
            raise document.error((section,), f"found {_shown(body)}", f"a table [{section}]")
        for name, entry in body.items():
            if section != "detectors":
                found[(section, name)] = _parse_periods(document, (section, name), entry)
                continue
            if not isinstance(entry, dict):
                raise document.error(
                    (section, name), f"found {_shown(entry)}", f"a table [detectors.{name}]"
                )
            for parameter, inner in entry.items():
                key = (section, name, parameter)
                found[key] = _parse_periods(document, key, inner)
    return found


def _parse_periods(document: _Document, key: Key, entry: Any) -> list[Period]:
    """Return the periods of one parameter: a bare value, a table with ``value``, or several."""
    if isinstance(entry, list) and entry and all(isinstance(e, dict) for e in entry):
        periods = [_parse_period(document, (*key, i), e) for i, e in enumerate(entry)]
    elif isinstance(entry, dict):
        periods = [_parse_period(document, key, entry)]
    else:
        source = str(document.data.get("policy", {}).get("name", document.path.name))
        line = document.line(key)
        periods = [Period(entry, "", source, FIRST_DAY, None, str(document.path), line)]
    ordered = sorted(periods, key=lambda p: p.first)
    for before, after in itertools.pairwise(ordered):
        if before.last is None or before.last >= after.first:
            raise PolicyError(
                f"{document.path}:{after.line}: {'.'.join(key)}: found a period that overlaps "
                f"the one of line {before.line}, expected periods apart (effective_from/_to)"
            )
    return ordered


def _parse_period(document: _Document, key: KeyPath, entry: dict[str, Any]) -> Period:
    for name in entry:
        if name not in _PERIOD_KEYS:
            raise document.error((*key, name), "found an unknown key", _one_of(_PERIOD_KEYS))
    for name in ("value", "source"):
        if name not in entry:
            raise document.error(key, f"found no {name}", "value, unit, source, effective_from")
    for name in ("unit", "source", "note"):
        if not isinstance(entry.get(name, ""), str):
            raise document.error((*key, name), f"found {_shown(entry[name])}", "text")
    if not entry["source"].strip():
        raise document.error((*key, "source"), "found empty text", 'a citation or "proposed"')
    days: list[int | None] = []
    for name in ("effective_from", "effective_to"):
        value = entry.get(name)
        if value is not None and (not isinstance(value, dt.date) or isinstance(value, dt.datetime)):
            raise document.error(
                (*key, name), f"found {_shown(value)}", "a date such as 2026-01-31"
            )
        days.append(None if value is None else day_number(value))
    first, last = days
    if first is not None and last is not None and last < first:
        raise document.error(
            (*key, "effective_to"),
            f"found {entry['effective_to']}",
            f"a day not before effective_from {entry['effective_from']}",
        )
    return Period(
        entry["value"],
        entry.get("unit", ""),
        entry["source"],
        FIRST_DAY if first is None else first,
        last,
        str(document.path),
        document.line((*key, "value")),
    )


def _lists_of(
    document: _Document, only: Sequence[str]
) -> tuple[list[tuple[QuotaEntry, str]], list[tuple[Rule, str]]]:
    if only:
        for key in document.data:
            if key not in only:
                raise document.error((key,), "found an unknown section", _one_of(only))
    quotas = _entries(document, "quotas", QuotaEntry)
    for i, (entry, _) in enumerate(quotas):
        if entry.per_sale is None and not entry.windows:
            raise document.error(("quotas", i), "found no limit", "per_sale or windows")
    return quotas, _entries(document, "rules", Rule)


def _entries(document: _Document, section: str, kind: type[T]) -> list[tuple[T, str]]:
    """Return the entries of an array of tables, each with its place (``file:line``)."""
    raw = document.data.get(section, [])
    if not isinstance(raw, list):
        raise document.error((section,), f"found {_shown(raw)}", f"tables [[{section}]]")
    out: list[tuple[T, str]] = []
    for i, entry in enumerate(raw):
        try:
            value = msgspec.convert(entry, kind, strict=True)
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at `$")
            name = where.rstrip("`").lstrip(".").split("[")[0].split(".")[0]
            key: KeyPath = (section, i, name) if name else (section, i)
            found = _shown(entry.get(name)) if isinstance(entry, dict) and name else "this entry"
            raise document.error(key, f"found {found}", _expected(message)) from None
        first, last = value.effective_from, value.effective_to  # type: ignore[attr-defined]
        if last is not None and last < first:
            raise document.error(
                (section, i, "effective_to"), f"found {last}", f"a day not before {first}"
            )
        out.append((value, f"{document.path}:{document.line((section, i))}"))
    return out


def _refuse_overlapping_quotas(quotas: list[tuple[QuotaEntry, str]]) -> None:
    for i, (a, place) in enumerate(quotas):
        for b, other_place in quotas[:i]:
            both = (a.per_sale is not None and b.per_sale is not None) or (a.windows and b.windows)
            apart = (a.effective_to is not None and a.effective_to < b.effective_from) or (
                b.effective_to is not None and b.effective_to < a.effective_from
            )
            if a.class_name == b.class_name and both and not apart:
                raise PolicyError(
                    f"{place}: quotas: found a second limit of {a.class_name} on days of that of "
                    f"{other_place}, expected periods apart"
                )


def convert_value(period: Period, kind: Any, name: str) -> Any:
    """Convert a period's value to the annotated type ``kind`` or raise with file and line."""
    try:
        return msgspec.convert(period.value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise PolicyError(
            f"{period.file}:{period.line}: {name}: found {_shown(period.value)}, "
            f"expected {_expected(str(error))}"
        ) from None


def _expected(message: str) -> str:
    """Turn a message of msgspec (``Expected `int` >= 1``) into what follows "expected"."""
    message = message.partition(" - at `$")[0].replace("`", "")
    if message.startswith("Object contains unknown field"):
        return "only known keys; " + message[0].lower() + message[1:]
    if message.startswith("Object missing required field"):
        return "the key " + message.rpartition("field ")[2]
    message = message.removeprefix("Expected ")
    return message.partition(", got")[0]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _one_of(names: Iterable[str]) -> str:
    return "one of " + ", ".join(sorted(names))

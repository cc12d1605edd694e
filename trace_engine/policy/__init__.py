"""Policy: thresholds and lists with unit, source and effective dates, read from TOML files.

A policy is data. Detectors declare which parameters they have (with bounds); the policy says what
they are on a given day and who says so. Nothing here imports a detector.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from trace_engine.policy.errors import PolicyError
from trace_engine.policy.files import (
    FLAT_SECTIONS,
    Contents,
    Key,
    convert_value,
    policies_folder,
    read_policy,
    resolve,
)
from trace_engine.policy.values import (
    FIRST_DAY,
    General,
    Period,
    Quota,
    QuotaEntry,
    Rule,
    day_number,
)

__all__ = ["General", "Period", "Policy", "PolicyError", "Provenance", "Quota", "Rule"]

S = TypeVar("S", bound=msgspec.Struct)


class Provenance(NamedTuple):
    """Where a value comes from. ``source`` is a citation, or ``proposed``."""

    source: str
    unit: str
    value: Any


class Policy:
    """A policy, validated as far as it can be without knowing the detectors."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._cache: dict[tuple[Key, type[msgspec.Struct], int], msgspec.Struct] = {}
        head = contents.head
        self.name: str = head["name"]
        self.title_zh: str = head.get("title_zh", "")
        history = head.get("history_from")
        self.history_from: int | None = None if history is None else day_number(history)
        """Day from which the data hold every event of every pack produced since, if stated."""
        self._validate_section(("general",), General)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Policy:
        """Read a policy file, the shipped policy of that name, or (``None``) the default policy.

        Raises :class:`PolicyError` with one line ``file:line: what: found …, expected …``.
        """
        if path is None:
            return cls(read_policy(policies_folder() / "default.toml"))
        found = resolve(str(path))
        if found is None:
            shipped = ", ".join(sorted(p.stem for p in policies_folder().glob("*.toml")))
            raise PolicyError(f"{path}: found no such file, expected a policy file or {shipped}")
        return cls(read_policy(found))

    @cached_property
    def version(self) -> str:
        """Name, version and the first 8 hexadecimal digits of a hash of all values in force."""
        contents = self._contents
        content = {
            "history_from": self.history_from,
            "values": {
                ".".join(key): [[p.value, p.unit, p.source, p.first, p.last] for p in periods]
                for key, periods in contents.periods.items()
            },
            "quotas": sorted(json.dumps(msgspec.to_builtins(q)) for q in contents.quotas),
            "rules": sorted(json.dumps(msgspec.to_builtins(r)) for r in contents.rules.values()),
        }
        text = json.dumps(content, sort_keys=True, default=str, ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.name} {contents.head.get('version', '0')} {digest}"

    @cached_property
    def _changes(self) -> list[int]:
        spans: list[tuple[int, int | None]] = [
            (period.first, period.last)
            for periods in self._contents.periods.values()
            for period in periods
        ]
        listed: list[QuotaEntry | Rule] = [*self._contents.quotas, *self._contents.rules.values()]
        for entry in listed:
            last = None if entry.effective_to is None else day_number(entry.effective_to)
            spans.append((day_number(entry.effective_from), last))
        days = {first for first, _ in spans} | {last + 1 for _, last in spans if last is not None}
        return sorted(days - {FIRST_DAY})

    def change_days(self) -> list[int]:
        """Return, sorted, the days on which a value or a list may change."""
        return list(self._changes)

    def segment(self, day: int) -> int:
        """Number the stretches between change days: equal numbers, equal policy."""
        return bisect.bisect_right(self._changes, day)

    def parameters(self, detector_id: str, kind: type[S], day: int) -> S:
        """Return a detector's parameters on ``day``; what the policy omits has its default.

        ``kind`` is the detector's parameters struct. A name it does not have, or a value of the
        wrong type or out of bounds, raises :class:`PolicyError`.
        """
        return self._struct(("detectors", detector_id), kind, day)

    def section(self, name: str, kind: type[S], day: int | None = None) -> S:
        """Return the parameters of a flat section (``ranking``, ``sampling``) as ``kind``.

        Without ``day``: the values with the latest beginning.
        """
        if name not in FLAT_SECTIONS:
            raise ValueError(f"no section {name!r}; expected one of {', '.join(FLAT_SECTIONS)}")
        return self._struct((name,), kind, 2**31 - 1 if day is None else day)

    def general(self, day: int) -> General:
        """Return the values of ``[general]`` on ``day``."""
        return self._struct(("general",), General, day)

    def _struct(self, prefix: Key, kind: type[S], day: int) -> S:
        key = (prefix, kind, self.segment(day))
        found = self._cache.get(key)
        if found is None:
            self._validate_section(prefix, kind)
            values = {}
            for field in msgspec.structs.fields(kind):
                for period in self._contents.periods.get((*prefix, field.encode_name), ()):
                    if period.holds(day):
                        name = ".".join((*prefix, field.encode_name))
                        values[field.name] = convert_value(period, field.type, name)
            found = self._cache[key] = kind(**values)
        return cast("S", found)

    def _validate_section(self, prefix: Key, kind: type[msgspec.Struct]) -> None:
        """Check names, types and bounds of every period of a section."""
        types = {f.encode_name: f.type for f in msgspec.structs.fields(kind)}
        for key, periods in self._contents.periods.items():
            if key[:-1] != prefix:
                continue
            for period in periods:
                if key[-1] not in types:
                    expected = f"one of {', '.join(sorted(types))}" if types else "no parameters"
                    raise PolicyError(
                        f"{period.file}:{period.line}: {'.'.join(prefix)}: "
                        f"found the unknown parameter {key[-1]!r}, expected {expected}"
                    )
                convert_value(period, types[key[-1]], ".".join(key))

    def check(self, detectors: Mapping[str, Any]) -> None:
        """Validate against the catalogue: ``{id: class with .parameters}``.

        An unknown detector, an unknown parameter or a bad value raises :class:`PolicyError`.
        """
        for key, periods in self._contents.periods.items():
            if key[0] == "detectors" and key[1] not in detectors:
                raise PolicyError(
                    f"{periods[0].file}:{periods[0].line}: found the unknown detector {key[1]!r}, "
                    f"expected one of {', '.join(sorted(detectors))}"
                )
        for identifier, detector in detectors.items():
            self._validate_section(("detectors", identifier), detector.parameters)

    def provenance(self, detector_id: str, parameter: str, day: int) -> Provenance | None:
        """Return source, unit and value of a detector's parameter on ``day``; None if not set."""
        for period in self._contents.periods.get(("detectors", detector_id, parameter), ()):
            if period.holds(day):
                return Provenance(period.source, period.unit, period.value)
        return None

    def quotas(self, day: int) -> list[Quota]:
        """Return the limits in force on ``day``, one for each class, sorted by class."""
        by_class: dict[str, list[QuotaEntry]] = {}
        for entry in self._contents.quotas:
            last = entry.effective_to
            if day_number(entry.effective_from) <= day and (
                last is None or day <= day_number(last)
            ):
                by_class.setdefault(entry.class_name, []).append(entry)
        out = []
        for name, entries in sorted(by_class.items()):
            sale = next((e for e in entries if e.per_sale is not None), None)
            rolling = next((e for e in entries if e.windows), None)
            windows = tuple(sorted((w.days, w.packs) for w in rolling.windows)) if rolling else ()
            out.append(
                Quota(
                    class_name=name,
                    per_sale=sale.per_sale if sale else None,
                    windows=windows,
                    source=sale.source if sale else (rolling.source if rolling else ""),
                    windows_source=rolling.source if rolling else "",
                )
            )
        return out

    def rules(self) -> list[Rule]:
        """Return all rules that put drugs on lists, whatever their dates, sorted by id."""
        return [rule for _, rule in sorted(self._contents.rules.items())]

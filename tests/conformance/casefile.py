"""Hand-made cases as data: ``cases/<detector>.toml`` and ``cases/benign.toml``.

A case is a name, a few events, and the events on which the detector of the file must fire, all of
them and no others (an empty list: a benign case that must stay silent). An event is one line::

    e3 | 2025-03-05 09:00 | sale_shipment | W1 > W2 | unit_price=10 bill_code=B1

id, time (a date alone is a date-only bill), type, giver > receiver (either may be left out), and
further canonical columns. The actor is the giver of an outgoing and the receiver of an incoming
event unless ``actor_id=`` says otherwise; the code is the first of the world's unless ``code=`` does.
``e3*40`` stands for forty events ``e3_1`` ... ``e3_40`` of forty codes in a row, ``every=2.5``
seconds apart if that is said; a ``#`` in a value is the event's number, ``serial=true`` counts the
codes by serials (the check digits stay). All cases trade in
the world of ``cases/world.toml``.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from trace_engine.events.kinds import INCOMING, parse_kind

FOLDER = Path(__file__).parent / "cases"
FIRST_CODE = "81000010000000000001"
Row = dict[str, Any]

_NUMBERS = {"quantity", "receivable", "pack_level"}
_DECIMALS = {"temperature"}
_TRUTHS = {"split_sale", "gift"}


@dataclass(frozen=True)
class HandCase:
    """One case; ``detector`` is empty where no suspected violation at all may be found."""

    name: str
    detector: str
    rows: tuple[Row, ...]
    fires: frozenset[str]
    subjects: dict[str, str] = field(default_factory=dict)
    history_from: str | None = None

    def __str__(self) -> str:
        return f"{self.detector or 'benign'}: {self.name}"


def _value(name: str, text: str) -> Any:
    """Return what a word of a line says."""
    if name in _NUMBERS:
        return int(text)
    if name in _DECIMALS:
        return float(text)
    return text == "true" if name in _TRUTHS else text


@lru_cache(maxsize=1)
def world_rows() -> dict[str, list[Row]]:
    """Return the registry tables of the shared world."""
    with (FOLDER / "world.toml").open("rb") as file:
        return tomllib.load(file)


def event_rows(line: str) -> Iterator[Row]:
    """Return the rows one line stands for."""
    parts = [part.strip() for part in line.split("|")]
    head, time, kind, sides = parts[:4]
    giver, _, receiver = (part.strip() for part in sides.partition(">"))
    row: Row = {"event_time": time, "event_type": kind}
    if giver:
        row["from_id"] = giver
    if receiver:
        row["to_id"] = receiver
    row["actor_id"] = receiver if parse_kind(kind) in INCOMING else giver
    for word in parts[4].split() if len(parts) > 4 else ():
        name, _, value = word.partition("=")
        value = value.replace("~", " ")
        row[name] = _value(name, value)
    row.setdefault("code", FIRST_CODE)
    name, _, times = head.partition("*")
    every, step = float(row.pop("every", 0)), 10**4 if row.pop("serial", None) else 1
    if not times:
        yield {"event_id": name, **row}
        return
    first, begin = int(row["code"]), dt.datetime.fromisoformat(time)
    for number in range(1, int(times) + 1):
        mine = {n: v.replace("#", str(number)) if isinstance(v, str) else v for n, v in row.items()}
        if every:
            mine["event_time"] = str(begin + dt.timedelta(seconds=every * (number - 1)))
        yield {"event_id": f"{name}_{number}", **mine, "code": str(first + step * number)}


def read_cases(path: Path) -> Iterator[HandCase]:
    """Return the cases of one file."""
    with path.open("rb") as file:
        content = tomllib.load(file)
    detector = "" if path.stem == "benign" else path.stem
    for entry in content["case"]:
        rows = [row for line in entry["events"] for row in event_rows(line)]
        yield HandCase(
            name=entry["name"],
            detector=detector,
            rows=tuple(rows),
            fires=frozenset(entry.get("fires", ())),
            subjects=entry.get("subjects", {}),
            history_from=entry.get("history_from"),
        )


def all_cases() -> list[HandCase]:
    """Return every hand-made case, by file and order."""
    paths = sorted(path for path in FOLDER.glob("*.toml") if path.stem != "world")
    return [case for path in paths for case in read_cases(path)]

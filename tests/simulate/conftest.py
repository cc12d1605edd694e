"""One small market, read back as plain Python for all tests of the simulator."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from trace_engine.simulate import Summary, simulate

Row = dict[str, Any]


@dataclass
class World:
    """A written market: its rows, registry and truth as lists of dictionaries."""

    folder: Path
    summary: Summary
    events: list[Row]
    by_id: dict[str, Row]
    by_code: dict[str, list[Row]]
    enterprises: dict[str, Row]
    drugs: dict[str, Row]
    schemes: list[Row]
    benign: list[Row]
    touched: set[str]
    sellers: list[Row]

    def province(self, party: str) -> str:
        return str(self.enterprises[party]["region"])[:2]


def bracketed(code: str) -> str:
    """Return a GS1 code with brackets, however it was scanned; any other code as it is."""
    if len(code) == 30 and code.isdigit() and code[:2] + code[16:18] == "0121":
        return f"(01){code[2:16]}(21){code[18:]}"
    return code


def drug_of(code: str) -> str:
    """Return the drug_id in a sound code."""
    return code[4:18] if code.startswith("(01)") else code[:7]


def read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_world(folder: Path, summary: Summary) -> World:
    events = pq.read_table(folder / "events").to_pylist()
    by_code: dict[str, list[Row]] = defaultdict(list)
    by_id: dict[str, Row] = {}
    for row in events:
        row["code"] = bracketed(row["code"])
        if row["event_id"] not in by_id:
            by_id[row["event_id"]] = row
            by_code[row["code"]].append(row)
    truth = folder / "truth"
    return World(
        folder,
        summary,
        events,
        by_id,
        by_code,
        {r["enterprise_id"]: r for r in read_csv(folder / "registry/enterprises.csv")},
        {r["drug_id"]: r for r in read_csv(folder / "registry/drugs.csv")},
        pq.read_table(truth / "schemes.parquet").to_pylist(),
        pq.read_table(truth / "benign.parquet").to_pylist(),
        set(pq.read_table(truth / "touched_codes.parquet").column("code").to_pylist()),
        read_csv(truth / "sellers.csv"),
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("market")
    return read_world(folder, simulate(70_000, 11, folder))

"""Write what was planted: ``schemes``, ``sellers``, ``benign`` and ``touched_codes``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trace_engine.simulate.codes import code_texts
from trace_engine.simulate.flows import MICRO
from trace_engine.simulate.market import MAH, PLATFORM, UNLICENSED, Market
from trace_engine.simulate.truth import SUBJECT, Truth
from trace_engine.simulate.write import event_ids

NO_SELLERS = (MAH, PLATFORM, UNLICENSED)  # types that ``sellers.csv`` does not list


def _lists(lists: list[tuple[int, ...]], texts: pa.Array) -> pa.Array:
    offsets = np.cumsum([0, *(len(one) for one in lists)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), texts)


def _code_lists(market: Market, lists: list[tuple[int, ...]]) -> pa.Array:
    flat = np.array([c for one in lists for c in one], np.uint64)
    return _lists(lists, code_texts(flat, market.gtins, market.other_codes))


def _event_lists(lists: list[tuple[int, ...]]) -> pa.Array:
    flat = np.array([u for one in lists for u in one], np.int64)
    return _lists(lists, event_ids(flat))


def write_truth(market: Market, truth: Truth, ids: list[str], folder: Path) -> None:
    """Write the four truth files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    schemes = truth.schemes
    time = pa.timestamp("us")
    table = pa.table(
        {
            "scheme_id": pa.array([s.scheme_id for s in schemes], pa.string()),
            "detector": pa.array([s.detector for s in schemes], pa.string()),
            "variant": pa.array([s.variant for s in schemes], pa.string()),
            "seller_id": pa.array([ids[s.party] for s in schemes], pa.string()),
            "role": pa.array([s.role for s in schemes], pa.string()),
            "codes": _code_lists(market, [s.codes for s in schemes]),
            "event_ids": _event_lists([s.uids for s in schemes]),
            "first_time": pa.array([s.first_time * MICRO for s in schemes], time),
            "last_time": pa.array([s.last_time * MICRO for s in schemes], time),
        }
    )
    pq.write_table(table, folder / "schemes.parquet", store_schema=False)

    benign = truth.benign
    pq.write_table(
        pa.table(
            {
                "kind": pa.array([b.kind for b in benign], pa.string()),
                "codes": _code_lists(market, [b.codes for b in benign]),
                "event_ids": _event_lists([b.uids for b in benign]),
            }
        ),
        folder / "benign.parquet",
        store_schema=False,
    )

    touched = np.array(sorted(truth.touched), np.uint64)
    pq.write_table(
        pa.table({"code": code_texts(touched, market.gtins, market.other_codes)}),
        folder / "touched_codes.parquet",
        store_schema=False,
    )

    guilty = truth.guilty
    cases: dict[int, set[str]] = {}
    for scheme in schemes:
        if scheme.role == SUBJECT:
            cases.setdefault(scheme.party, set()).add(scheme.detector)
    with (folder / "sellers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seller_id", "guilty", "schemes"])
        for party in range(market.count):
            if int(market.type[party]) in NO_SELLERS:
                continue
            named = ";".join(sorted(cases.get(party, ())))
            writer.writerow([ids[party], str(party in guilty).lower(), named])

"""How well findings and ranking recover what a simulated market planted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from trace_engine.ranking import metrics

SUSPECTED = "suspected_violation"
SUBJECT = "subject"  # role of the party that answers for a scheme
SCHEME_COLUMNS = ("scheme_id", "detector", "seller_id", "codes", "event_ids")
EXAMPLES = 10  # ids listed of what was missed or wrong
CUTS = (10, 20, 50, 100)
TRUE_WORDS = frozenset({"1", "true", "yes", "y"})
DAY = 86_400_000_000  # µs


class TruthError(ValueError):
    """The truth folder cannot be used; the message is one line."""


def evaluate(
    findings: pa.Table, sellers: pa.Table, truth_folder: str | Path, *, events: int
) -> dict[str, Any]:
    """Compare findings and ranking with the truth in ``truth_folder``; the result is JSON-ready.

    A scheme counts as found if a finding of its detector shares a code or an event with it. A
    finding of a suspected violation is a false alarm if none of its codes was touched by any
    scheme and none of its events belongs to one. Benign twins (planted look-alikes) count as hit
    by false alarms only. ``events`` is the number of accepted events, for rates.

    The ranking is that of the sellers the truth judges, those in ``sellers.csv``: platforms and makers
    are ranked as well, but nobody says whether they are guilty.

    Raises :class:`TruthError` for a folder that lacks a file or column.
    """
    folder = Path(truth_folder)
    schemes = _read(folder / "schemes.parquet", SCHEME_COLUMNS)
    benign = _read(folder / "benign.parquet", ("kind", "codes", "event_ids"))
    touched = _read(folder / "touched_codes.parquet", ("code",)).column("code").combine_chunks()
    judged = _read_sellers(folder / "sellers.csv")
    links = _links(findings)
    known = _hit(links, "code", touched, findings.num_rows) | _hit(
        links, "event", _flat(schemes, "event_ids")[1], findings.num_rows
    )
    suspected = pc.equal(findings.column("family"), SUSPECTED).to_numpy(zero_copy_only=False)
    false = suspected & ~known
    return {
        "events": events,
        "findings": findings.num_rows,
        "schemes": _scheme_report(findings, schemes, links),
        "false_alarms": _false_report(findings, false, events),
        "benign": _benign_report(findings, benign, links, false),
        "load": _load(findings, events),
        "ranking": rank_report(_listed(sellers, judged), _guilty(judged)),
    }


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        line = " ".join(str(error).split())
        raise TruthError(f"{path}: cannot be read: {line}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names)
        raise TruthError(f"{path}: found columns {found}; expected also {', '.join(missing)}")
    return table


def read_guilty(path: Path) -> set[str]:
    """Return the ids of the sellers that ``sellers.csv`` marks guilty.

    Raises :class:`TruthError` for a file that cannot be read or lacks a column.
    """
    return _guilty(_read_sellers(path))


def _guilty(judged: dict[str, bool]) -> set[str]:
    return {seller for seller, guilty in judged.items() if guilty}


def _listed(sellers: pa.Table, judged: dict[str, bool]) -> pa.Table:
    """Return the rows of the ranked table that the truth judges."""
    ids = sellers.column("enterprise_id").cast(pa.string())
    return sellers.filter(pc.is_in(ids, value_set=pa.array(sorted(judged), pa.string())))


def _read_sellers(path: Path) -> dict[str, bool]:
    """Return whether each seller that ``sellers.csv`` lists is guilty."""
    options = pa_csv.ConvertOptions(
        column_types={"seller_id": pa.string(), "guilty": pa.string()},
        include_columns=["seller_id", "guilty"],
    )
    try:
        table = pa_csv.read_csv(path, convert_options=options)
    except (OSError, KeyError, pa.ArrowException) as error:
        line = " ".join(str(error).split())
        raise TruthError(f"{path}: cannot be read: {line}") from error
    return {
        seller: flag is not None and flag.strip().lower() in TRUE_WORDS
        for seller, flag in zip(*(c.to_pylist() for c in table.columns), strict=True)
    }


def _flat(table: pa.Table, column: str) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return row numbers and values of a list column, one entry a list item; nulls are left out."""
    lists = table.column(column).combine_chunks()
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(lists).cast(pa.string())
    keep = pc.is_valid(values)
    return rows[keep.to_numpy(zero_copy_only=False)].astype(np.int64), values.filter(keep)


def _kinds(codes: int, events: int) -> pa.Array:
    return pa.concat_arrays([pa.repeat("code", codes), pa.repeat("event", events)])


def _links(findings: pa.Table) -> pa.Table:
    """Return what each finding rests on: ``finding`` (row), ``kind`` (code, event), ``value``."""
    code_rows, codes = _flat(findings, "codes")
    first = findings.column("code").combine_chunks()
    has_first = pc.is_valid(first)
    event_rows, events = _flat(findings, "event_ids")
    first_rows = np.flatnonzero(has_first.to_numpy(zero_copy_only=False))
    code_values = pa.concat_arrays([codes, first.filter(has_first).cast(pa.string())])
    rows = np.concatenate((code_rows, first_rows, event_rows))
    return pa.table(
        {
            "finding": pa.array(rows, pa.int64()),
            "kind": _kinds(len(code_values), len(events)),
            "value": pa.concat_arrays([code_values, events]),
        }
    )


def _hit(links: pa.Table, kind: str, values: pa.Array, count: int) -> npt.NDArray[np.bool_]:
    """Return which findings rest on one of ``values``, shape ``(count,)``."""
    rows = links.filter(pc.equal(links.column("kind"), kind))
    inside = pc.is_in(rows.column("value"), value_set=values.cast(pa.string()))
    result = np.zeros(count, bool)
    result[rows.filter(inside).column("finding").to_numpy()] = True
    return result


def _planted_links(planted: pa.Table) -> pa.Table:
    """Return what each planted row consists of: ``row``, ``kind``, ``value``."""
    code_rows, codes = _flat(planted, "codes")
    event_rows, events = _flat(planted, "event_ids")
    return pa.table(
        {
            "row": pa.array(np.concatenate((code_rows, event_rows)), pa.int64()),
            "kind": _kinds(len(codes), len(events)),
            "value": pa.concat_arrays([codes, events]),
        }
    )


def _scheme_report(findings: pa.Table, schemes: pa.Table, links: pa.Table) -> dict[str, Any]:
    """Return recall by planted detector, what was missed, and the delay of detection.

    A scheme may take several rows of the truth, one a party; it is found if any of them is. Its
    seller is named if a finding has an answerable party (role ``subject``) as its subject.
    """
    pairs = _planted_links(schemes).join(links, ["kind", "value"], join_type="inner")
    row = pairs.column("row").to_numpy()
    finding = pairs.column("finding").to_numpy()
    detector = schemes.column("detector").to_numpy(zero_copy_only=False)
    same = detector[row] == findings.column("detector").to_numpy(zero_copy_only=False)[finding]
    row, finding = row[same], finding[same]
    seller = schemes.column("seller_id").to_numpy(zero_copy_only=False)
    subject = findings.column("subject_id").to_numpy(zero_copy_only=False)
    right = seller[row] == subject[finding]
    if "role" in schemes.column_names:
        right &= schemes.column("role").to_numpy(zero_copy_only=False)[row] == SUBJECT
    ids = schemes.column("scheme_id").to_pylist()
    delay = _delays(findings, schemes, row, finding)
    planted: dict[str, dict[str, list[int]]] = {}
    for number, (name, scheme) in enumerate(zip(detector.tolist(), ids, strict=True)):
        planted.setdefault(str(name), {}).setdefault(str(scheme), []).append(number)
    found_rows, named_rows = set(row.tolist()), set(row[right].tolist())
    report: dict[str, dict[str, Any]] = {}
    for name, cases in sorted(planted.items()):
        found = {case for case, rows in cases.items() if not found_rows.isdisjoint(rows)}
        known = [float(np.nanmin(delay[cases[case]])) for case in found if _any(delay[cases[case]])]
        report[name] = {
            "planted": len(cases),
            "found": len(found),
            "recall": len(found) / len(cases),
            "seller_named": sum(not named_rows.isdisjoint(rows) for rows in cases.values()),
            "median_delay_days": float(np.median(known)) if known else None,
            "missed": [case for case in cases if case not in found][:EXAMPLES],
        }
    total = sum(entry["planted"] for entry in report.values())
    hits = sum(entry["found"] for entry in report.values())
    return {
        "planted": total,
        "found": hits,
        "recall": hits / total if total else None,
        "lowest_recall": min((entry["recall"] for entry in report.values()), default=None),
        "by_detector": report,
    }


def _any(values: npt.NDArray[np.float64]) -> bool:
    return bool((~np.isnan(values)).any())


def _delays(
    findings: pa.Table,
    schemes: pa.Table,
    scheme: npt.NDArray[np.int64],
    finding: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return days from a scheme's first event to its first finding; NaN where unknown."""
    delay = np.full(schemes.num_rows, np.nan)
    if "first_time" not in schemes.column_names:
        return delay
    begin, known_begin = _wall_clock(schemes.column("first_time"))
    time, known_time = _wall_clock(findings.column("event_time"))
    earliest = np.full(schemes.num_rows, np.iinfo(np.int64).max)
    usable = known_time[finding] & known_begin[scheme]
    np.minimum.at(earliest, scheme[usable], time[finding[usable]])
    seen = earliest < np.iinfo(np.int64).max
    delay[seen] = (earliest[seen] - begin[seen]) / DAY
    return delay


def _wall_clock(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return µs of the Shanghai wall clock, and where they are known."""
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = pc.local_timestamp(column.cast(pa.timestamp("us", tz="Asia/Shanghai")))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us"))
    known = pc.is_valid(column).to_numpy(zero_copy_only=False)
    values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return values, known


def _rate(count: int, events: int, per: int) -> float:
    return count * per / events if events else 0.0


def _false_report(findings: pa.Table, false: npt.NDArray[np.bool_], events: int) -> dict[str, Any]:
    rows = findings.filter(pa.array(false))
    by_detector: dict[str, dict[str, Any]] = {}
    for name, finding in zip(
        rows.column("detector").to_pylist(), rows.column("finding_id").to_pylist(), strict=True
    ):
        entry = by_detector.setdefault(str(name), {"count": 0, "examples": []})
        entry["count"] += 1
        if len(entry["examples"]) < EXAMPLES:
            entry["examples"].append(finding)
    for entry in by_detector.values():
        entry["per_100k_events"] = _rate(entry["count"], events, 100_000)
    return {
        "count": rows.num_rows,
        "per_100k_events": _rate(rows.num_rows, events, 100_000),
        "by_detector": dict(sorted(by_detector.items())),
    }


def _benign_report(
    findings: pa.Table, benign: pa.Table, links: pa.Table, false: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Return, by kind of look-alike, how many were planted and which detectors fell for them."""
    wrong = links.filter(pa.array(false[links.column("finding").to_numpy()]))
    pairs = _planted_links(benign).join(wrong, ["kind", "value"], join_type="inner")
    row, finding = pairs.column("row").to_numpy(), pairs.column("finding").to_numpy()
    hit = np.zeros(benign.num_rows, bool)
    hit[row] = True
    detector = findings.column("detector").to_pylist()
    fell: dict[str, Counter[str]] = {}
    kinds = benign.column("kind").to_pylist()
    for twin, name in sorted(
        {(int(r), str(detector[f])) for r, f in zip(row, finding, strict=True)}
    ):
        fell.setdefault(str(kinds[twin]), Counter())[name] += 1
    of_kind = np.array([str(kind) for kind in kinds], dtype=object)
    return {
        "planted": benign.num_rows,
        "hit": int(hit.sum()),
        "by_kind": {
            kind: {
                "planted": int((of_kind == kind).sum()),
                "hit": int(hit[of_kind == kind].sum()),
                "by_detector": dict(sorted(fell.get(kind, Counter()).items())),
            }
            for kind in sorted(set(of_kind))
        },
    }


def _load(findings: pa.Table, events: int) -> dict[str, Any]:
    """Return findings per 10 000 events, by family and by detector."""
    report: dict[str, Any] = {"per_10k_events": _rate(findings.num_rows, events, 10_000)}
    for key in ("family", "detector"):
        counts = Counter(str(value) for value in findings.column(key).to_pylist())
        report[f"by_{key}"] = {
            name: {"count": count, "per_10k_events": _rate(count, events, 10_000)}
            for name, count in sorted(counts.items())
        }
    return report


def rank_report(sellers: pa.Table, guilty: set[str]) -> dict[str, Any]:
    """Return precision, recall, average precision, nDCG and lift of the ranked table."""
    ordered = sellers.sort_by([("rank", "ascending")]).column("enterprise_id").combine_chunks()
    values = pa.array(sorted(guilty), pa.string())
    relevant = pc.is_in(ordered, value_set=values).to_numpy(zero_copy_only=False)
    k = len(guilty)
    cuts = sorted({cut for cut in (*CUTS, k) if 0 < cut <= max(len(relevant), k)})
    ids = ordered.to_pylist()
    unranked = sorted(guilty - set(ids))
    return {
        "sellers": len(relevant),
        "guilty": k,
        "guilty_unranked": len(unranked),
        "k": k,
        "precision_at_k": metrics.precision_at(relevant, k),
        "recall_at_k": metrics.recall_at(relevant, k, k),
        "average_precision": metrics.average_precision(relevant, k),
        "ndcg_at_k": metrics.ndcg_at(relevant, k, k),
        "lift_at_k": metrics.lift_at(relevant, k, k),
        "at": {
            str(cut): {
                "precision": metrics.precision_at(relevant, cut),
                "recall": metrics.recall_at(relevant, cut, k),
                "ndcg": metrics.ndcg_at(relevant, cut, k),
                "lift": metrics.lift_at(relevant, cut, k),
            }
            for cut in cuts
        },
        "innocent_in_top_k": [ids[i] for i in np.flatnonzero(~relevant[:k])[:EXAMPLES]],
        "guilty_below_k": ([ids[i] for i in k + np.flatnonzero(relevant[k:])] + unranked)[
            :EXAMPLES
        ],
    }

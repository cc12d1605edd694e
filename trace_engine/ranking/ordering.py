"""The ranked table of sellers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.ranking.evidence import (
    FindingColumns,
    Pairs,
    combine_family,
    pair_evidence,
)
from trace_engine.ranking.parameters import RankingParameters
from trace_engine.ranking.reasons import write_reasons
from trace_engine.ranking.reference import (
    TableSource,
    enterprise_types,
    look_up,
    section,
    table_of,
)

FAMILIES = (
    "custody",
    "code",
    "region",
    "price",
    "quantity",
    "category",
    "licence",
    "scanning",
    "network",
    "other",  # detectors that are not in this installation's catalogue
)
DATA_QUALITY, HISTORY, BASELINE = "data_quality", "history", "baseline"
PARTS = (*FAMILIES, DATA_QUALITY, HISTORY, BASELINE)
TIERS = ("A", "B", "C", "D")
COUNTS = ("events", "packs_received", "packs_shipped", "packs_sold", "packs_sold_online")
DAY = 86_400_000_000  # µs


class DetectorFacts(msgspec.Struct, frozen=True):
    """What ranking needs to know of a detector."""

    evidence: str
    title_zh: str
    title_en: str


def catalogue() -> dict[str, DetectorFacts]:
    """Return evidence family and titles of every detector of this installation."""
    from trace_engine.detectors.registry import detector_classes

    return {
        name: DetectorFacts(str(cls.evidence), cls.title_zh, cls.title_en)
        for name, cls in detector_classes().items()
    }


def rank(
    findings: pa.Table,
    exposure: pa.Table,
    registry: TableSource | None = None,
    policy: Any = None,
    *,
    detectors: Mapping[str, DetectorFacts] | None = None,
) -> pa.Table:
    """Rank every enterprise that has exposure or is the subject of a finding.

    ``findings`` and ``exposure`` follow the schemas of :mod:`trace_engine.events.findings`;
    ``policy`` may be None (defaults), a policy or :class:`RankingParameters`; ``detectors``
    replaces the catalogue. Counterparties get nothing. Equal scores are ordered by enterprise id,
    and the order of rows in the inputs does not matter.

    The columns ``contribution_*`` add up to ``score`` (within rounding, 1e-12). Findings without a
    subject are counted in the schema's metadata, ``findings_without_subject``.
    """
    parameters = section(policy, "ranking", RankingParameters)
    facts = catalogue() if detectors is None else detectors
    ids = _enterprises(findings, exposure)
    counts = _exposure_columns(ids, exposure)
    names = sorted(set(facts) | set(pc.unique(findings.column("detector")).to_pylist()) - {None})
    columns, quality, lost = _finding_columns(findings, ids, names)
    sizes = [
        counts[parameters.exposure.get(name, parameters.default_exposure)].astype(np.float64)
        for name in names
    ]
    pairs = pair_evidence(columns, sizes, parameters)
    pair_quality = quality[pairs.detector]
    pair_family = [
        DATA_QUALITY if is_quality else _family(facts, names[detector])
        for detector, is_quality in zip(pairs.detector, pair_quality, strict=True)
    ]
    violations = _past_violations(ids, exposure, registry, parameters)
    nats = _nats(pairs, pair_family, violations, len(ids), parameters)
    total = reduce(np.add, nats.values())
    score = -np.expm1(-total)
    # Aumann-Shapley shares of 1 - exp(-sum): proportional to the evidence.
    contributions = {name: score * part / total for name, part in nats.items()}
    order = np.argsort(-score, kind="stable")
    titles = [(facts[n].title_zh, facts[n].title_en) if n in facts else (n, n) for n in names]
    zh, en = write_reasons(contributions, pairs, pair_family, titles, violations)
    table = pa.table(
        {
            "enterprise_id": ids,
            **_registered(ids, findings, registry),
            "score": score,
            "tier": pa.array(TIERS).take(pa.array(_tier(score, parameters))),
            **counts,
            **_exposure_rest(ids, exposure),
            **_finding_totals(findings, ids, pairs, pair_quality),
            "findings_by_detector": _by_detector(pairs, names, len(ids)),
            **_detector_counts(pairs, names, len(ids)),
            **{f"contribution_{name}": contributions[name] for name in PARTS},
            "past_violations": violations,
            "reasons_zh": pa.array(zh, pa.string()),
            "reasons_en": pa.array(en, pa.string()),
        }
    )
    table = table.take(pa.array(order))
    table = table.add_column(0, "rank", pa.array(np.arange(1, len(ids) + 1, dtype=np.int64)))
    return table.replace_schema_metadata({"findings_without_subject": str(lost)})


def _enterprises(findings: pa.Table, exposure: pa.Table) -> pa.Array:
    """Return the ids of all sellers, each once, sorted by code point."""
    both = pa.chunked_array(
        [
            *exposure.column("enterprise_id").cast(pa.string()).chunks,
            *findings.column("subject_id").cast(pa.string()).chunks,
        ],
        pa.string(),
    )
    unique = pc.unique(both).drop_null()
    unique = unique.filter(pc.not_equal(unique, ""))
    return unique.take(pc.array_sort_indices(unique))


def _exposure_columns(ids: pa.Array, exposure: pa.Table) -> dict[str, npt.NDArray[np.int64]]:
    row = pc.index_in(ids, value_set=exposure.column("enterprise_id").combine_chunks())
    return {
        name: pc.fill_null(exposure.column(name).combine_chunks().take(row), 0).to_numpy(
            zero_copy_only=False
        )
        for name in COUNTS
    }


def _exposure_rest(ids: pa.Array, exposure: pa.Table) -> dict[str, pa.Array]:
    row = pc.index_in(ids, value_set=exposure.column("enterprise_id").combine_chunks())
    return {
        name: exposure.column(name).combine_chunks().take(row)
        for name in ("sales_value", "first_time", "last_time")
    }


def _finding_columns(
    findings: pa.Table, ids: pa.Array, names: list[str]
) -> tuple[FindingColumns, npt.NDArray[np.bool_], int]:
    """Return findings as numbers, which detectors are data quality, and how many have no subject.

    A detector is of one family; should rows disagree (findings of different versions), it counts
    as data quality only if all of them say so.
    """
    seller = pc.fill_null(
        pc.index_in(findings.column("subject_id").combine_chunks(), value_set=ids), -1
    ).to_numpy(zero_copy_only=False)
    detector = pc.fill_null(
        pc.index_in(findings.column("detector").combine_chunks(), value_set=pa.array(names)), -1
    ).to_numpy(zero_copy_only=False)
    is_quality = pc.fill_null(
        pc.equal(findings.column("family").combine_chunks(), DATA_QUALITY), False
    ).to_numpy(zero_copy_only=False)
    keep = (seller >= 0) & (detector >= 0)
    suspected = np.zeros(len(names), bool)
    suspected[detector[keep & ~is_quality]] = True
    seen = np.zeros(len(names), bool)
    seen[detector[keep]] = True
    columns = FindingColumns(
        seller=seller[keep].astype(np.int64),
        detector=detector[keep].astype(np.int64),
        severity=_floats(findings, "severity")[keep],
        codes=_floats(findings, "code_count")[keep],
    )
    return columns, seen & ~suspected, int((~keep).sum())


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    column = pc.fill_null(table.column(name).combine_chunks().cast(pa.float64()), 0.0)
    values: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
    return values


def _family(facts: Mapping[str, DetectorFacts], detector: str) -> str:
    family = facts[detector].evidence if detector in facts else "other"
    return family if family in FAMILIES else "other"


def _nats(
    pairs: Pairs,
    pair_family: list[str],
    violations: npt.NDArray[np.int64],
    sellers: int,
    p: RankingParameters,
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the evidence of every part, each of shape ``(sellers,)``."""
    family = np.array(pair_family, dtype=object)
    nats = {}
    for name in (*FAMILIES, DATA_QUALITY):
        rows = np.flatnonzero(family == name)
        cap = p.data_quality_cap if name == DATA_QUALITY else p.family_cap
        nats[name] = combine_family(
            pairs.seller[rows], pairs.evidence[rows], sellers, p.overlap, cap
        )
    nats[HISTORY] = np.minimum(p.history_weight * violations, p.history_cap)
    nats[BASELINE] = np.full(sellers, -np.log1p(-p.base_rate))
    return nats


def _past_violations(
    ids: pa.Array, exposure: pa.Table, registry: TableSource | None, p: RankingParameters
) -> npt.NDArray[np.int64]:
    """Return how many inspections found a violation, up to the last day of the data."""
    table = table_of(registry, "inspections", ("enterprise_id", "date", "outcome"))
    result = np.zeros(len(ids), np.int64)
    if table is None or not table.num_rows or not exposure.num_rows:
        return result
    last = pc.max(exposure.column("last_time")).cast(pa.int64()).as_py()
    if last is None:
        return result
    # Times are stored as UTC instants; the Shanghai day is eight hours ahead.
    last_day = (last + 8 * 3_600_000_000) // DAY
    day = table.column("date").cast(pa.date32()).combine_chunks().cast(pa.int32())
    recent = pc.and_(pc.less_equal(day, last_day), pc.greater_equal(day, last_day - p.history_days))
    counted = pc.and_kleene(recent, pc.equal(table.column("outcome").combine_chunks(), "violation"))
    subject = table.column("enterprise_id").combine_chunks().filter(counted)
    index = pc.index_in(subject, value_set=ids).drop_null().to_numpy(zero_copy_only=False)
    return result + np.bincount(index, minlength=len(ids))


def _tier(score: npt.NDArray[np.float64], p: RankingParameters) -> npt.NDArray[np.int64]:
    edges = np.array([p.tier_b, p.tier_c, p.tier_d])
    return np.searchsorted(edges, score, side="right").astype(np.int64)


def _registered(
    ids: pa.Array, findings: pa.Table, registry: TableSource | None
) -> dict[str, pa.Array]:
    """Return name, type and region; of the unregistered, what their findings say of them."""
    columns = ("enterprise_id", "name", "type", "region")
    table = table_of(registry, "enterprises", columns)
    found = look_up(ids, table, "enterprise_id", columns)
    stated = findings.select(["subject_id", "subject_type", "region"]).sort_by(
        [("subject_id", "ascending"), ("subject_type", "ascending"), ("region", "ascending")]
    )
    from_findings = look_up(ids, stated, "subject_id", ("subject_type", "region"))
    return {
        "name": found["name"].cast(pa.string()),
        "type": pc.coalesce(
            enterprise_types(found["type"].cast(pa.string())),
            _no_empty(from_findings["subject_type"]),
        ),
        "region": pc.coalesce(
            found["region"].cast(pa.string()), _no_empty(from_findings["region"])
        ),
        "registered": pc.is_valid(found["enterprise_id"]),
    }


def _no_empty(values: pa.Array) -> pa.Array:
    """Return text with null for what is empty."""
    text = values.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _finding_totals(
    findings: pa.Table, ids: pa.Array, pairs: Pairs, pair_quality: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[Any]]:
    """Return findings by family and the CNY at stake in suspected violations."""
    sellers = len(ids)
    by_family = [
        np.bincount(pairs.seller[rows], pairs.count[rows], sellers).astype(np.int64)
        for rows in (~pair_quality, pair_quality)
    ]
    stake = findings.select(["subject_id", "family", "amount"])
    suspected = stake.filter(pc.not_equal(stake.column("family"), DATA_QUALITY))
    # Sorted by value: a sum of floats must not depend on the order of rows.
    suspected = suspected.sort_by([("subject_id", "ascending"), ("amount", "ascending")])
    index = pc.index_in(suspected.column("subject_id").combine_chunks(), value_set=ids)
    rows = pc.is_valid(index).to_numpy(zero_copy_only=False)
    amount = np.bincount(
        index.drop_null().to_numpy(zero_copy_only=False),
        _floats(suspected, "amount")[rows],
        sellers,
    )
    return {
        "findings_violation": by_family[0],
        "findings_data_quality": by_family[1],
        "amount": amount,
    }


def _by_detector(pairs: Pairs, names: list[str], sellers: int) -> pa.Array:
    """Return counts by detector as JSON objects, detectors in alphabetical order."""
    counts: dict[int, dict[str, int]] = {}
    columns = (pairs.seller.tolist(), pairs.detector.tolist(), pairs.count.tolist())
    for seller, detector, count in zip(*columns, strict=True):
        counts.setdefault(seller, {})[names[detector]] = count
    texts = ["{}"] * sellers
    for row, value in counts.items():
        texts[row] = msgspec.json.encode(value).decode()
    return pa.array(texts, pa.string())


def _detector_counts(
    pairs: Pairs, names: list[str], sellers: int
) -> dict[str, npt.NDArray[np.int64]]:
    columns = {f"n_{name}": np.zeros(sellers, np.int64) for name in names}
    for index, name in enumerate(names):
        rows = pairs.detector == index
        columns[f"n_{name}"][pairs.seller[rows]] = pairs.count[rows]
    return columns

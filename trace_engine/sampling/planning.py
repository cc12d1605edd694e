"""The sampling plan: who to sample next, what to look for, how, and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.core.workdays import add_working_days
from trace_engine.ranking.evidence import finding_nats
from trace_engine.ranking.ordering import DetectorFacts, catalogue
from trace_engine.ranking.parameters import RankingParameters
from trace_engine.ranking.reference import TableSource, look_up, section, table_of
from trace_engine.registry.jurisdiction import responsible_bureau
from trace_engine.registry.types import ENTERPRISE_TYPE_NAMES, EnterpriseType
from trace_engine.sampling import describe
from trace_engine.sampling.parameters import SamplingParameters
from trace_engine.sampling.random_arm import systematic
from trace_engine.sampling.targets import (
    HOSPITAL,
    OFFLINE,
    ONLINE,
    SUSPECTED,
    Target,
    allocate,
    find_targets,
    floats,
    is_medical,
    online_place,
    sells_online,
)

RISK, RANDOM = "risk", "random"
# What :func:`plan` reads of findings; :func:`candidates` reads the first four.
FINDING_COLUMNS = (
    "subject_id", "family", "severity", "code_count", "finding_id", "detector", "event_time",
    "drug_id", "batch_no", "code", "codes", "order_code", "observed", "threshold", "unit",
    "title_zh", "title_en", "evidence",
)  # fmt: skip
UNKNOWN_PLACE = "??"  # jurisdiction of sellers whose region nobody knows

SAMPLING_PLAN = pa.schema(
    [
        ("sequence", pa.int64()),  # from 1
        ("arm", pa.string()),  # risk, random
        ("enterprise_id", pa.string()),
        ("name", pa.string()),
        ("uscc", pa.string()),
        ("licence_no", pa.string()),
        ("type", pa.string()),
        ("region", pa.string()),
        ("address", pa.string()),
        ("platform_id", pa.string()),  # online only, as are the three below
        ("shop_id", pa.string()),
        ("shop_name", pa.string()),
        ("shop_url", pa.string()),
        ("drug_id", pa.string()),
        ("generic_name", pa.string()),
        ("approval_no", pa.string()),
        ("pack_spec", pa.string()),
        ("batch_no", pa.string()),
        ("codes", pa.list_(pa.string())),
        ("channel", pa.string()),  # online, offline, hospital
        ("method", pa.string()),  # online_purchase, mystery_buyer, on_site
        ("method_zh", pa.string()),
        ("method_en", pa.string()),
        ("quantity", pa.int64()),  # smallest packs
        ("why_zh", pa.string()),
        ("why_en", pa.string()),
        ("finding_ids", pa.list_(pa.string())),
        ("rank", pa.int64()),
        ("score", pa.float64()),
        ("tier", pa.string()),
        ("value", pa.float64()),  # what the allocation went by; null in the random arm
        ("inclusion_probability", pa.float64()),  # of this line's draw, 1 in the risk arm
        ("seed", pa.int64()),
        ("responsible_bureau", pa.string()),
        ("responsible_bureau_en", pa.string()),
        ("due_date", pa.date32()),
        ("due_date_basis", pa.string()),  # state_council, weekdays_only
    ]
)


def plan(
    sellers: pa.Table,
    findings: pa.Table,
    registry: TableSource | None = None,
    policy: Any = None,
    *,
    budget: int,
    seed: int,
    as_of: dt.date,
    detectors: Mapping[str, DetectorFacts] | None = None,
) -> pa.Table:
    """Return at most ``budget`` lines in the columns of :data:`SAMPLING_PLAN`.

    ``sellers`` is what :func:`trace_engine.ranking.rank` returned. The random arm gets its share of
    the budget, the risk arm the rest; what an arm cannot use goes to the other, and what neither
    can use stays unspent. The random arm is drawn over every seller with events, whatever the risk
    arm holds, so that a seller may stand in both. ``as_of`` is the plan's day, from which the due
    date and the cool-down after inspections count. ``policy`` is None or a policy.

    Raises ``ValueError`` for a budget or seed below 0.
    """
    if budget < 0:
        raise ValueError(f"budget: found {budget}, expected 0 or more")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: found {seed}, expected 0 or more, below 2^63")
    p = section(policy, "sampling", SamplingParameters)
    ranking = section(policy, "ranking", RankingParameters)
    facts = catalogue() if detectors is None else detectors
    sellers = _in_order(sellers)
    findings = _usable(findings, sellers, registry, p, as_of)
    jurisdiction = _provinces(sellers)
    frame = _frame(sellers)
    targets = find_targets(findings, sellers, ranking, p.repeat_discount, p.maximum_per_seller)
    chosen = _allocated(targets, sellers, budget, p)
    random_size = min(budget - len(chosen), len(frame))
    drawn = frame[systematic(_strata(sellers, jurisdiction, frame), random_size, seed)]
    probability = random_size / len(frame) if len(frame) else 0.0
    lines = [_risk_line(t, sellers, findings, facts, p) for t in chosen]
    lines += _random_lines(drawn, sellers, probability, p)
    due, basis = add_working_days(as_of, p.due_working_days)
    shops = table_of(registry, "shops", ("enterprise_id", *_SHOP_COLUMNS))
    for number, line in enumerate(lines, 1):
        line |= {"sequence": number, "seed": seed, "due_date": due, "due_date_basis": basis}
        if line["channel"] == ONLINE:
            _add_shop(line, shops, as_of)
    return _with_reference(pa.Table.from_pylist(lines, schema=SAMPLING_PLAN), registry)


def candidates(
    sellers: pa.Table,
    findings: pa.Table,
    registry: TableSource | None = None,
    policy: Any = None,
    *,
    budget: int,
    as_of: dt.date,
) -> list[str]:
    """Return the sellers that may stand in the risk arm: a plan reads findings of no others.

    Parameters are those of :func:`plan`; of ``findings``, which may hold all there are, only
    subject, family, severity and codes are read. At most ``budget`` sellers, and those in their
    cool-down, of whom only the times of their findings can tell.

    The strongest target of a seller is worth the seller's score and stands before its others. Were
    each seller to have that one alone, nobody would be passed over who is chosen among more.
    """
    p = section(policy, "sampling", SamplingParameters)
    ranking = section(policy, "ranking", RankingParameters)
    sellers = _in_order(sellers)
    ids = sellers.column("enterprise_id").combine_chunks()
    suspected = pc.fill_null(pc.equal(findings.column("family"), SUSPECTED), False)
    findings = findings.select(["subject_id", "severity", "code_count"]).filter(suspected)
    index = pc.index_in(findings.column("subject_id"), value_set=ids, skip_nulls=True)
    known = index.is_valid()
    index = index.filter(known).combine_chunks().to_numpy().astype(np.int64)
    findings = findings.filter(known)
    nats = finding_nats(floats(findings, "severity"), floats(findings, "code_count"), ranking)
    evidence = np.bincount(index, nats, len(ids))
    named = np.bincount(index, minlength=len(ids)) > 0
    checks = _last_checks(registry, p, as_of)
    cooling = np.zeros(len(ids), np.bool_)
    if checks is not None:
        among = checks.column("enterprise_id").combine_chunks()
        cooling = pc.is_in(ids, value_set=among).to_numpy(zero_copy_only=False)
    score = np.where(evidence > 0, sellers.column("score").to_numpy(), 0.0)
    names = ids.to_pylist()
    rows = np.flatnonzero(named & ~cooling).tolist()
    targets = [Target(row, None, "", float(score[row]), []) for row in rows]
    targets.sort(key=lambda target: (-target.value, names[target.seller]))
    chosen = _allocated(targets, sellers, budget, p)
    return [names[target.seller] for target in chosen] + [
        names[row] for row in np.flatnonzero(named & cooling).tolist()
    ]


def _allocated(
    targets: list[Target], sellers: pa.Table, budget: int, p: SamplingParameters
) -> list[Target]:
    """Return what the risk arm takes of ``targets``."""
    size = budget - min(int(budget * p.random_share + 0.5), len(_frame(sellers)))
    limit = int(np.ceil(p.jurisdiction_share * size))
    return allocate(targets, _provinces(sellers), size, limit, p.jurisdiction_capacity)


def _frame(sellers: pa.Table) -> npt.NDArray[np.int64]:
    """Return the rows of sellers with events, over which the random arm is drawn."""
    return np.flatnonzero(sellers.column("events").to_numpy() > 0)


def _in_order(sellers: pa.Table) -> pa.Table:
    """Sort sellers by id, so that the draw does not depend on how they came."""
    return sellers.sort_by([("enterprise_id", "ascending")])


def _usable(
    findings: pa.Table,
    sellers: pa.Table,
    registry: TableSource | None,
    p: SamplingParameters,
    as_of: dt.date,
) -> pa.Table:
    """Return suspected violations that may lead to a sample: known seller, newer than a check.

    In the cool-down after an inspection only findings from later days count.
    """
    ids = sellers.column("enterprise_id").combine_chunks()
    keep = pc.and_(
        pc.equal(findings.column("family"), SUSPECTED),
        pc.is_in(findings.column("subject_id"), value_set=ids),
    )
    findings = findings.filter(pc.fill_null(keep, False))
    last = _last_checks(registry, p, as_of)
    if last is None or not findings.num_rows:
        return findings
    checked = look_up(
        findings.column("subject_id").combine_chunks(), last, "enterprise_id", ("date_max",)
    )["date_max"].cast(pa.date32())
    found_on = pc.local_timestamp(findings.column("event_time")).cast(pa.date32(), safe=False)
    newer = pc.fill_null(pc.greater(found_on, checked), True)
    return findings.filter(newer)


def _last_checks(
    registry: TableSource | None, p: SamplingParameters, as_of: dt.date
) -> pa.Table | None:
    """Return ``enterprise_id`` and ``date_max`` of inspections within the cool-down, None of none."""
    checks = table_of(registry, "inspections", ("enterprise_id", "date"))
    if checks is None or not checks.num_rows:
        return None
    day = checks.column("date").cast(pa.date32())
    since = as_of - dt.timedelta(days=p.cool_down_days)
    recent = checks.set_column(1, "date", day).filter(
        pc.and_(pc.less_equal(day, pa.scalar(as_of)), pc.greater_equal(day, pa.scalar(since)))
    )
    return recent.group_by("enterprise_id").aggregate([("date", "max")])


def _provinces(sellers: pa.Table) -> list[str]:
    return [(region or UNKNOWN_PLACE)[:2] for region in sellers.column("region").to_pylist()]


def _strata(
    sellers: pa.Table, jurisdiction: list[str], frame: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the stratum (type × province) of every unit of the frame, numbered in order."""
    kinds = sellers.column("type").to_pylist()
    names = [f"{kinds[row] or ''}/{jurisdiction[row]}" for row in frame.tolist()]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], np.int64)


def _seller_fields(sellers: pa.Table, row: int) -> dict[str, Any]:
    columns = ("enterprise_id", "name", "type", "region", "rank", "score", "tier")
    fields = {column: sellers.column(column)[row].as_py() for column in columns}
    kind = ENTERPRISE_TYPE_NAMES.get(fields["type"] or "", EnterpriseType.UNKNOWN)
    region = fields["region"] or ""
    fields["responsible_bureau"] = responsible_bureau(kind, region, "zh")
    fields["responsible_bureau_en"] = responsible_bureau(kind, region, "en")
    return fields


def _method_fields(how: str, p: SamplingParameters) -> dict[str, Any]:
    return {
        "method": how,
        "method_zh": describe.METHOD_ZH[how],
        "method_en": describe.METHOD_EN[how],
        "quantity": describe.quantity(how, p),
    }


def _risk_line(
    target: Target,
    sellers: pa.Table,
    findings: pa.Table,
    facts: Mapping[str, DetectorFacts],
    p: SamplingParameters,
) -> dict[str, Any]:
    fields = _seller_fields(sellers, target.seller)
    rows = findings.take(pa.array(target.findings)).to_pylist()
    lead = facts.get(rows[0]["detector"])
    how = describe.method(
        target.channel, fields["type"], lead is not None and lead.evidence in p.conduct_families
    )
    told = describe.most_telling(rows)
    zh, en = describe.risk_reason(fields["score"], fields["tier"], told, len(rows))
    places = [online_place(row["evidence"]) for row in rows]
    platform, shop = next((place for place in places if any(place)), (None, None))
    codes: dict[str, None] = {}
    for row in rows:
        for code in (row["code"], *(row["codes"] or ())):
            if code and len(codes) < p.codes_to_look_for:
                codes[code] = None
    return fields | {
        "arm": RISK,
        "platform_id": platform if target.channel == ONLINE else None,
        "shop_id": shop if target.channel == ONLINE else None,
        "drug_id": target.drug_id,
        "batch_no": next((row["batch_no"] for row in rows if row["batch_no"]), None),
        "codes": list(codes),
        "channel": target.channel,
        **_method_fields(how, p),
        "why_zh": zh,
        "why_en": en,
        "finding_ids": [row["finding_id"] for row in told],
        "value": target.value,
        "inclusion_probability": 1.0,
    }


def _random_lines(
    drawn: npt.NDArray[np.int64], sellers: pa.Table, probability: float, p: SamplingParameters
) -> list[dict[str, Any]]:
    medical, online = is_medical(sellers), sells_online(sellers)
    zh, en = describe.random_reason(probability)
    lines = []
    for row in drawn.tolist():
        channel = HOSPITAL if medical[row] else ONLINE if online[row] else OFFLINE
        fields = _seller_fields(sellers, row)
        how = describe.method(channel, fields["type"], conduct=False)
        lines.append(
            fields
            | {
                "arm": RANDOM,
                "codes": [],
                "channel": channel,
                **_method_fields(how, p),
                "why_zh": zh,
                "why_en": en,
                "finding_ids": [],
                "inclusion_probability": probability,
            }
        )
    return lines


_SHOP_COLUMNS = ("shop_id", "platform_id", "name", "url", "reported_from", "reported_to")


def _add_shop(line: dict[str, Any], shops: pa.Table | None, as_of: dt.date) -> None:
    """Fill in the shop: the one named by the evidence, else the seller's first reported one."""
    if shops is None:
        return
    if line.get("shop_id"):
        found = shops.filter(pc.equal(shops.column("shop_id"), line["shop_id"])).to_pylist()
    else:
        own = shops.filter(pc.equal(shops.column("enterprise_id"), line["enterprise_id"]))
        wanted = line.get("platform_id")
        found = [
            shop
            for shop in own.sort_by("shop_id").to_pylist()
            if (shop["reported_from"] is None or shop["reported_from"] <= as_of)
            and (shop["reported_to"] is None or shop["reported_to"] >= as_of)
            and wanted in (None, shop["platform_id"])
        ]
    if found:
        shop = found[0]
        line["shop_id"] = shop["shop_id"]
        line["platform_id"] = line.get("platform_id") or shop["platform_id"]
        line["shop_name"], line["shop_url"] = shop["name"], shop["url"]


def _with_reference(table: pa.Table, registry: TableSource | None) -> pa.Table:
    """Fill in what the registry knows of enterprises and drugs."""
    wanted = (
        ("enterprises", "enterprise_id", ("uscc", "licence_no", "address")),
        ("drugs", "drug_id", ("generic_name", "approval_no", "pack_spec")),
    )
    for name, key, columns in wanted:
        reference = table_of(registry, name, (key, *columns))
        found = look_up(table.column(key).combine_chunks(), reference, key, columns)
        for column in columns:
            place = table.schema.get_field_index(column)
            field = table.schema.field(place)
            table = table.set_column(place, field, found[column].cast(pa.string()))
    return table

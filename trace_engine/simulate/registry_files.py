"""The registry folder of the simulated market: who the enterprises are, on paper.

Identifiers are made up but well formed: unified social credit codes with both check characters,
licence numbers of both formats, approval numbers, GB/T 2260 regions.
"""

from __future__ import annotations

import csv
from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from trace_engine.simulate.cities import CITIES, PROVINCES
from trace_engine.simulate.formulary import FORMULARY
from trace_engine.simulate.market import (
    CHAIN_HQ,
    CHAIN_STORE,
    MAH,
    MEDICAL,
    PHARMACY,
    PLATFORM,
    PUBLIC_HOSPITAL,
    TYPES,
    UNLICENSED,
    WHOLESALER,
    Market,
)
from trace_engine.simulate.write import shop_id

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_FIRST = "安康宁瑞华仁济同德百信益民福泽恒永嘉弘天正和惠"
_SECOND = "源泰堂健芝生美达兴元林春顺诚禾佳润隆祥盛"
_SURNAMES = "王李张刘陈杨黄赵周吴徐孙马朱胡郭何高林罗"
_GIVEN = "伟芳娜敏静磊强洋艳勇军杰娟涛明超霞平刚桂"
_SCOPES = {
    MAH: "rx;otc_a;otc_b;injection",
    WHOLESALER: "rx;otc_a;otc_b;ephedrine_compound;psychotropic_2;injection;blood_product;vaccine;"
    "anabolic_or_peptide;botulinum;high_value;cold_chain",
    CHAIN_HQ: "rx;otc_a;otc_b;ephedrine_compound;psychotropic_2;cold_chain;high_value;injection",
    CHAIN_STORE: "rx;otc_a;otc_b;ephedrine_compound;psychotropic_2;cold_chain;high_value;injection",
    PHARMACY: "rx;otc_a;otc_b;ephedrine_compound;psychotropic_2;cold_chain;high_value;injection",
}
_SUFFIX = {
    MAH: "制药有限公司",
    WHOLESALER: "医药有限公司",
    CHAIN_HQ: "大药房连锁有限公司",
    PHARMACY: "大药房",
    PUBLIC_HOSPITAL: "人民医院",
    MEDICAL: "诊所",
    PLATFORM: "网络科技有限公司",
}
_LICENCE_LETTERS = {WHOLESALER: "AA", CHAIN_HQ: "BA", CHAIN_STORE: "CA", PHARMACY: "DA"}


def uscc(region: str, organisation: int, category: str = "91") -> str:
    """Return a unified social credit code (GB 32100-2015) for an 8-digit organisation number."""
    body = f"{organisation:08d}"
    total = sum(int(c) * w for c, w in zip(body, _ORGANISATION_WEIGHTS, strict=True))
    check = "0123456789X0"[(11 - total % 11)]
    text = f"{category}{region}{body}{check}"
    total = sum(_ALPHABET.index(c) * w for c, w in zip(text, _WEIGHTS, strict=True))
    return text + _ALPHABET[-total % 31]


def party_ids(market: Market) -> list[str]:
    """Return the ids of all parties: numbers that tell nothing of their bearer."""
    space = 10**7
    factor = 3_333_331 + 2 * market.first_day % 1000 * 10
    factor += 0 if factor % 5 else 2
    return [f"Q{(i * factor + 1_234_567) % space:07d}" for i in range(market.count)]


def _name(market: Market, party: int, kind: int) -> str:
    city = CITIES[int(market.city[party])]
    province = PROVINCES[city.code[:2]][0]
    brand = _FIRST[party % len(_FIRST)] + _SECOND[party // len(_FIRST) % len(_SECOND)]
    serial = party // (len(_FIRST) * len(_SECOND))
    if serial:
        brand += str(serial)
    if kind == CHAIN_STORE:
        head = int(market.parent[party])
        return f"{_name(market, head, CHAIN_HQ)}{city.name}{party}店"
    if kind == PUBLIC_HOSPITAL:
        return f"{city.name}第{party - market.first(PUBLIC_HOSPITAL) + 1}人民医院"
    return f"{province}{city.name}{brand}{_SUFFIX[kind]}"


def _licence(market: Market, party: int, kind: int, new_format: bool) -> str:
    province = PROVINCES[CITIES[int(market.city[party])].code[:2]][1]
    if kind == MAH:
        return f"{province}{2016 + party % 9}{party % 10_000:04d}"
    if kind in _LICENCE_LETTERS:
        area = int(market.city[party]) * 13 % 900 + 100
        letters = _LICENCE_LETTERS[kind]
        if new_format:
            return f"{province}{letters}{area}{party % 10}{party % 100_000:05d}"
        return f"{province}{letters}{area}{party % 10_000:04d}"
    if kind in (PUBLIC_HOSPITAL, MEDICAL):
        return f"PDY{party:08d}{CITIES[int(market.city[party])].code}A1001"
    return ""


def write_registry(
    market: Market, ids: list[str], folder: Path, rng: np.random.Generator, guilty: Set[int]
) -> None:
    """Write the seven registry tables as CSV (UTF-8) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "enterprises.csv", _enterprises(market, ids, rng))
    _write(folder / "drugs.csv", _drugs(market, ids))
    _write(folder / "shops.csv", _shops(market, ids))
    recalls = [
        {
            "drug_id": market.drug_ids[r.drug],
            "batch_no": market.batches.number[r.batch],
            "level": r.level,
            "range_region": r.region,
            "effective": _date(r.day),
        }
        for r in market.recalls
    ]
    _write(
        folder / "recalls.csv",
        recalls,
        ("drug_id", "batch_no", "level", "range_region", "effective"),
    )
    _write(folder / "territories.csv", _territories(market))
    _write(folder / "licence_events.csv", _licence_events(market, ids, rng))
    _write(folder / "inspections.csv", _inspections(market, ids, rng, guilty))


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def _write(path: Path, rows: list[dict[str, Any]], header: tuple[str, ...] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else list(header), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _enterprises(market: Market, ids: list[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    m = market
    new_format = rng.random(m.count) < 0.4
    since = rng.integers(200, 1200, m.count)
    person = rng.integers(0, len(_SURNAMES) * len(_GIVEN) ** 2, m.count)
    rows = []
    for party in range(m.count):
        kind = int(m.type[party])
        if kind == UNLICENSED:
            continue
        city = CITIES[int(m.city[party])]
        group = int(m.group[party])
        status, changed = m.status.get(party, ("active", None))
        # Licences last five years; the new number format began in 2024.
        begin = m.first_day - int(since[party])
        new = bool(new_format[party]) and begin >= 19_723
        warehouses = {city.code, CITIES[int(m.warehouse[party])].code}
        who = int(person[party] if group < 0 else person[group])
        rows.append(
            {
                "enterprise_id": ids[party],
                "name": _name(m, party, kind),
                "uscc": uscc(
                    city.code,
                    (party * 7919 + 10_000_019) % 100_000_000,
                    "12" if kind == PUBLIC_HOSPITAL else "91",
                ),
                "type": TYPES[kind],
                "region": city.code,
                "licence_no": _licence(m, party, kind, new),
                "licence_from": _date(begin),
                "licence_to": _date(begin + 5 * 365),
                "status": status,
                "status_date": "" if changed is None else _date(changed),
                "scope": _SCOPES.get(kind, ""),
                "controller_id": f"C{(group if group >= 0 else party):07d}",
                "legal_person": _SURNAMES[who % len(_SURNAMES)]
                + _GIVEN[who // len(_SURNAMES) % len(_GIVEN)]
                + _GIVEN[who // len(_SURNAMES) // len(_GIVEN)],
                "phone": f"1{30 + party % 60}{(party * 104_729) % 100_000_000:08d}",
                "address": f"{PROVINCES[city.code[:2]][0]}{city.name}健康路{party % 999 + 1}号",
                "warehouse_regions": ";".join(sorted(warehouses)),
                "group_id": f"G{group:07d}" if group >= 0 else "",
            }
        )
    return rows


def _drugs(market: Market, ids: list[str]) -> list[dict[str, Any]]:
    rows = []
    for drug in range(market.drug_count):
        medicine = FORMULARY[int(market.medicine[drug])]
        letter = "S" if "血" in medicine.generic_name or "疫苗" in medicine.generic_name else "H"
        if medicine.form in ("颗粒剂", "丸剂", "滴丸剂"):
            letter = "Z"
        unit = {"胶囊剂": "粒", "颗粒剂": "袋", "散剂": "袋", "丸剂": "丸", "滴丸剂": "丸"}.get(
            medicine.form, "支" if medicine.form in ("注射剂", "口服溶液剂") else "片"
        )
        rows.append(
            {
                "drug_id": market.drug_ids[drug],
                "generic_name": medicine.generic_name,
                "name": medicine.generic_name,
                "approval_no": f"国药准字{letter}{20_030_000 + drug * 13 % 9_999:08d}",
                "holder_id": ids[int(market.drug_holder[drug])],
                "form": medicine.form,
                "strength": f"{(drug % 8 + 1) * 5}mg",
                "pack_spec": f"{medicine.units}{unit}/盒",
                "classes": medicine.classes,
                "valid_from": "2015-01-01",
                "valid_to": "",
            }
        )
    return rows


def _shops(market: Market, ids: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "shop_id": shop_id(i),
            "platform_id": ids[int(market.shop_platform[i])],
            "enterprise_id": ids[int(owner)],
            "name": f"{_name(market, int(owner), PHARMACY)}旗舰店",
            "url": f"https://shop{i}.example.cn/",
            "reported_from": _date(market.first_day - 200 - i % 400),
            "reported_to": "",
        }
        for i, owner in enumerate(market.shop_owner)
    ]


def _territories(market: Market) -> list[dict[str, Any]]:
    """Return the provinces that makers opened each drug for: all of them."""
    return [
        {
            "drug_id": drug_id,
            "enterprise_id": "",
            "region": f"{province}0000",
            "valid_from": "2020-01-01",
            "valid_to": "",
        }
        for drug_id in market.drug_ids[:: max(1, market.drug_count // 20)]
        for province in PROVINCES
    ]


def _licence_events(
    market: Market, ids: list[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return ordinary changes: one party in ten changed something once in the year before."""
    some = np.flatnonzero(rng.random(market.count) < 0.1)
    kinds = ("renewal", "address_change", "legal_person_change", "scope_change")
    return [
        {
            "enterprise_id": ids[int(p)],
            "kind": kinds[int(rng.integers(0, len(kinds)))],
            "date": _date(market.first_day - int(rng.integers(1, 365))),
        }
        for p in some
    ]


def _inspections(
    market: Market, ids: list[str], rng: np.random.Generator, guilty: Set[int]
) -> list[dict[str, Any]]:
    """Return last year's visits: a random twentieth of the sellers, and what they found.

    Guilty sellers had been caught in a third of their visits, others in one of fifty.
    """
    rows = []
    for party in market.sellers[rng.random(len(market.sellers)) < 0.05].tolist():
        found = rng.random() < (0.33 if party in guilty else 0.02)
        rows.append(
            {
                "enterprise_id": ids[party],
                "date": _date(market.first_day - int(rng.integers(30, 365))),
                "kind": "random",
                "outcome": "violation" if found else "clean",
                "drug_id": "",
                "inclusion_probability": 0.05,
            }
        )
    return rows

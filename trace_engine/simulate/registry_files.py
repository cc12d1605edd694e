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
    LOGISTICS,
    MAH,
    MANUFACTURER,
    MEDICAL,
    PHARMACY,
    PLATFORM,
    PUBLIC_HOSPITAL,
    TYPES,
    UNLICENSED,
    WHOLESALER,
    LicenceChange,
    Market,
    Territory,
)
from trace_engine.simulate.pace import CASE_PACKS
from trace_engine.simulate.write import shop_id

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_FIRST = "安康宁瑞华仁济同德百信益民福泽恒永嘉弘天正和惠"
_SECOND = "源泰堂健芝生美达兴元林春顺诚禾佳润隆祥盛"
_SURNAMES = "王李张刘陈杨黄赵周吴徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡"
_GIVEN = "伟芳娜敏静磊强洋艳勇军杰娟涛明超霞平刚桂文辉玲丹波斌凯莉红梅建国庆云海燕秀英志远"
_ROADS = "健康解放人民中山建设和平胜利新华文化友谊光明团结幸福长江黄河北京南京上海广州武汉"
_BRANDS = "康宁舒欣安达泰和立倍清诺雅迈奥瑞"
_RETAIL_SCOPE = (
    "rx;otc_a;otc_b;ephedrine_compound;psychotropic_2;insulin;cold_chain;high_value;injection"
)
_TRADE_SCOPE = f"{_RETAIL_SCOPE};psychotropic_1;blood_product;vaccine;anabolic_or_peptide;botulinum"
_SCOPES = {
    MAH: _TRADE_SCOPE,
    MANUFACTURER: _TRADE_SCOPE,
    WHOLESALER: _TRADE_SCOPE,
    CHAIN_HQ: _RETAIL_SCOPE,
    CHAIN_STORE: _RETAIL_SCOPE,
    PHARMACY: _RETAIL_SCOPE,
}
_NEW_NUMBERS = 19_723  # 2024-01-01: licences issued from then on bear the new numbers
_SUFFIX = {
    MAH: "制药有限公司",
    WHOLESALER: "医药有限公司",
    CHAIN_HQ: "大药房连锁有限公司",
    PHARMACY: "大药房",
    PUBLIC_HOSPITAL: "人民医院",
    MEDICAL: "诊所",
    PLATFORM: "网络科技有限公司",
    MANUFACTURER: "药业有限公司",
    LOGISTICS: "医药物流有限公司",
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
    if kind in (MAH, MANUFACTURER):
        return f"{province}{2016 + party % 9}{party % 10_000:04d}"
    if kind in _LICENCE_LETTERS:
        area = int(market.city[party]) * 13 % 900 + 100
        letters = _LICENCE_LETTERS[kind]
        if new_format:
            return f"{province}{letters}{area}{party // 100_000 % 10}{party % 100_000:05d}"
        return f"{province}{letters}{area}{party % 10_000:04d}"
    if kind in (PUBLIC_HOSPITAL, MEDICAL):
        return f"PDY{party:08d}{CITIES[int(market.city[party])].code}A1001"
    return ""


def write_registry(
    market: Market,
    ids: list[str],
    folder: Path,
    rng: np.random.Generator,
    guilty: Set[int] = frozenset(),
) -> None:
    """Write the seven registry tables as CSV (UTF-8) into ``folder``.

    ``guilty`` sellers have been caught before more often than others.
    """
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
    _write(folder / "territories.csv", _territories(market, ids))
    _write(folder / "licence_events.csv", _licence_events(market, ids, rng))
    _write(folder / "inspections.csv", _inspections(market, ids, rng, guilty))


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def _write(path: Path, rows: list[dict[str, Any]], header: tuple[str, ...] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else list(header), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _person(number: int) -> str:
    """Return a name; namesakes only beyond 70 000 people."""
    count = len(_GIVEN)
    number = number * 30_011 % (len(_SURNAMES) * count**2)
    return _SURNAMES[number // count**2] + _GIVEN[number // count % count] + _GIVEN[number % count]


def _street(party: int) -> str:
    """Return an address within a city that nobody else has."""
    road = party // 999 % (len(_ROADS) // 2)
    block = party // 999 // (len(_ROADS) // 2)
    house = f"{party % 999 + 1}号" + (f"{block + 1}栋" if block else "")
    return f"{_ROADS[2 * road : 2 * road + 2]}路{house}"


def _enterprises(market: Market, ids: list[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    m = market
    new_format = rng.random(m.count) < 0.4
    since = rng.integers(200, 1200, m.count)
    # Four-digit numbers of the old format do not go round in a big market.
    numbered = since.copy()
    numbered[10_000:] = np.minimum(since[10_000:], max(1, m.first_day - _NEW_NUMBERS))
    new_format[10_000:] = True
    names = int(rng.integers(0, 10**6))
    rows = []
    for party in range(m.count):
        kind = int(m.type[party])
        if kind == UNLICENSED:
            continue
        city = CITIES[int(m.city[party])]
        group = int(m.group[party])
        status, changed = m.status.get(party, ("active", None))
        # Licences last five years.
        begin = m.first_day - int(numbered[party])
        new = bool(new_format[party]) and begin >= _NEW_NUMBERS
        warehouses = {city.code, CITIES[int(m.warehouse[party])].code}
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
                "legal_person": _person(names + (group if group >= 0 else party)),
                "phone": f"1{30 + party % 60}{(party * 104_729) % 100_000_000:08d}",
                "address": f"{PROVINCES[city.code[:2]][0]}{city.name}{_street(party)}",
                "warehouse_regions": ";".join(sorted(warehouses)),
                "group_id": f"G{group:07d}" if group >= 0 else "",
            }
            | m.papers.get(party, {})
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
                "name": _brand(drug) + medicine.generic_name,
                "approval_no": f"国药准字{letter}{20_030_000 + drug * 13 % 9_999:08d}",
                "holder_id": ids[int(market.drug_holder[drug])],
                "form": medicine.form,
                "strength": f"{(drug % 8 + 1) * 5}mg",
                "pack_spec": f"{medicine.units}{unit}/盒×{CASE_PACKS}盒/箱",
                "classes": medicine.classes,
                "valid_from": "2015-01-01",
                "valid_to": "",
            }
            | market.drug_papers.get(drug, {})
        )
    return rows


def _brand(drug: int) -> str:
    """Return the brand before the generic name; every third product is sold without one."""
    if drug % 3 == 0:
        return ""
    return f"{_BRANDS[drug % len(_BRANDS)]}{_BRANDS[drug // len(_BRANDS) % len(_BRANDS)]}牌 "


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
        if i not in market.unreported_shops
    ]


def _territories(market: Market, ids: list[str]) -> list[dict[str, Any]]:
    """Return where drugs may be sold; of some others it is said that they may be everywhere."""
    nowhere = [Territory(d, int(p)) for d in range(0, market.drug_count, 29) for p in PROVINCES]
    return [
        {
            "drug_id": market.drug_ids[t.drug],
            "enterprise_id": "" if t.party < 0 else ids[t.party],
            "region": f"{t.province}0000" if t.province else "",
            "valid_from": _date(t.first_day) if t.first_day else "2020-01-01",
            "valid_to": _date(t.last_day) if t.last_day else "",
        }
        for t in [*(t for t in nowhere if market.drug_free[t.drug]), *market.territories]
    ]


def _licence_events(
    market: Market, ids: list[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return ordinary changes in the year before and in the window, in order of party and day.

    One party in ten changed something once; one in eighty moved and changed three things on one
    day, and a scope some time later.
    """
    count = market.count
    kinds = ("renewal", "address_change", "legal_person_change", "warehouse_change", "报告年度情况")
    year = rng.integers(-365, market.days, count)
    once = np.flatnonzero(rng.random(count) < 0.1)
    moved = np.flatnonzero(rng.random(count) < 1 / 80)
    changes = [
        LicenceChange(p, kinds[int(rng.integers(0, len(kinds)))], market.first_day + int(year[p]))
        for p in once.tolist()
        if not market.apart[p]
    ]
    for p in moved.tolist():
        if not market.apart[p]:
            day = market.first_day + int(year[p])
            changes += [
                LicenceChange(p, kind, day)
                for kind in ("address_change", "warehouse_change", "legal_person_change")
            ]
            changes.append(LicenceChange(p, "scope_change", day - 40))
    changes += market.licence_changes
    return [
        {"enterprise_id": ids[c.party], "kind": c.kind, "date": _date(c.day)}
        for c in sorted(changes, key=lambda c: (c.party, c.day, c.kind))
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

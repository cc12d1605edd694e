"""Small random histories and registries, as canonical rows, for hypothesis.

Two kinds of history: *noise* (any event, any parties, in any order, which no business would make)
and *chains* (goods pass from hand to hand with bills on both sides), then bent: bills missing,
times cut to a date, sides not named, packs sold twice, returned, destroyed, made void.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]

DRUGS = ("8123456", "8654321")
CODES = tuple(f"{drug}{serial:013d}" for drug in DRUGS for serial in (11, 12))
REGIONS = ("110101", "310101", "440103", "510104", "320102", "130102", "440000")
PARTIES = tuple(f"P{i}" for i in range(6))  # the last one is never registered
TYPES = (
    "mah", "manufacturer", "wholesaler", "chain_hq", "chain_store", "pharmacy", "medical",
    "public_hospital",
)  # fmt: skip
FIRST_DAY = 20148  # 2025-03-01
OUTGOING = ("201", "208", "209", "212", "217", "207")
INCOMING = ("102", "107", "110", "113")
ANY_TYPE = (
    *OUTGOING, *INCOMING, "101", "103", "104", "108", "111", "112", "116", "202", "203", "204",
    "205", "206", "211", "214", "215", "216", "237", "321", "322", "323", "commissioning", "pack",
    "verification", "no_such_type",
)  # fmt: skip
CLOCK = ("00:00:00", "00:00:00", "08:30:00", "08:30:00", "08:45:00", "17:20:15", "23:59:59")


@dataclass(frozen=True)
class Case:
    """A registry and rows, both as plain dicts."""

    enterprises: tuple[Row, ...]
    drugs: tuple[Row, ...]
    recalls: tuple[Row, ...]
    rows: tuple[Row, ...]
    papers: dict[str, tuple[Row, ...]] = field(default_factory=dict)  # further tables

    @property
    def registry(self) -> dict[str, tuple[Row, ...]]:
        """Return the tables of the registry."""
        tables = {"enterprises": self.enterprises, "drugs": self.drugs, "recalls": self.recalls}
        return tables | {name: rows for name, rows in self.papers.items() if rows}


def day_text(offset: int) -> str:
    """Return a date, ``offset`` days after the first."""
    import datetime as dt

    return str(dt.date(1970, 1, 1) + dt.timedelta(days=FIRST_DAY + offset))


def make_registry(r: random.Random) -> tuple[tuple[Row, ...], tuple[Row, ...], tuple[Row, ...]]:
    """Return enterprises, drugs and recalls."""
    enterprises = []
    for party in PARTIES[:-1]:
        region = r.choice(REGIONS)
        row: Row = {
            "enterprise_id": party,
            "name": f"企业{party}",
            "type": r.choice(TYPES),
            "region": region if r.random() < 0.9 else None,
            "licence_no": f"L-{party}" if r.random() < 0.9 else None,
            "group_id": r.choice((None, None, None, "G1", "G1", "G2")),
            "warehouse_regions": r.choice((None, None, region, r.choice(REGIONS))),
        }
        enterprises.append(row)
    drugs = (
        {
            "drug_id": DRUGS[0],
            "generic_name": "氨酚伪麻美芬片",
            "pack_spec": r.choice(("3片×2板/盒", "4片/盒", None)),
            "classes": "ephedrine_compound;otc_a",
            "approval_no": "国药准字H10900001",
        },
        {
            "drug_id": DRUGS[1],
            "generic_name": "板蓝根颗粒",
            "pack_spec": "2支/盒",
            "approval_no": r.choice(("国药准字H10900001", "国药准字H10900002", None)),
            "classes": r.choice(
                (
                    "rx;injection",
                    "rx;high_value",
                    "rx;cold_chain",
                    "otc_b",
                    "rx;psychotropic_2",
                    "rx;psychotropic_1",
                )
            ),
        },
    )
    recall: Row = {
        "drug_id": r.choice(DRUGS),
        "batch_no": r.choice(("L1", "L2", None)),
        "level": r.choice(("1", "2", "3", None)),
        "range_region": r.choice((None, "310000", "440100")),
        "effective": day_text(r.randrange(6)),
    }
    return tuple(enterprises), drugs, (recall,)


SCOPES = (None, None, "rx;otc_a;otc_b", "otc_a;otc_b", "otc_b;cold_chain", "psychotropic_2", "中医")
CHANGES = (
    "address_change", "legal_person_change", "scope_change", "renewal", "issue", "suspension",
    "resumption", "cancellation", "revocation",
)  # fmt: skip


def with_papers(
    r: random.Random, enterprises: tuple[Row, ...]
) -> tuple[tuple[Row, ...], dict[str, tuple[Row, ...]]]:
    """Return the enterprises with licences of all conditions, and the tables beside them."""
    licensed = []
    for row in enterprises:
        day = r.randrange(-40, 60)
        status = r.choice((None, "active", "active", "suspended", "cancelled", "revoked"))
        licence = row["licence_no"] and r.choice(
            (row["licence_no"], "京AA0100001", "京AB010000001")
        )
        more = {
            "licence_no": licence,
            "uscc": r.choice((None, None, None, f"{row['enterprise_id']}-no-credit-code")),
            "licence_from": r.choice((None, day_text(-900), day_text(day))),
            "licence_to": r.choice((None, day_text(day - 45), day_text(day), day_text(900))),
            "status": status,
            "status_date": day_text(r.randrange(80)) if r.random() < 0.9 else None,
            "scope": r.choice(SCOPES),
        }
        licensed.append({**row, **more})
    shops = [
        {
            "shop_id": r.choice(("S1", "S1", "S2")),
            "platform_id": r.choice(("T1", "T1", "T2", None)),
            "enterprise_id": r.choice((*PARTIES, None)),
            "reported_from": r.choice((None, day_text(r.randrange(60)))),
            "reported_to": r.choice((None, None, day_text(60 + r.randrange(20)))),
        }
        for _ in range(r.choice((0, 1, 3)))
    ]
    territories = [
        {
            "drug_id": r.choice(DRUGS),
            "enterprise_id": r.choice((None, None, *PARTIES)),
            "region": r.choice((*REGIONS, "310000", "440100")),
            "valid_from": r.choice((None, day_text(r.randrange(20)))),
            "valid_to": r.choice((None, None, day_text(20 + r.randrange(40)))),
        }
        for _ in range(r.choice((0, 1, 3)))
    ]
    for row in territories:
        if row["enterprise_id"] and r.random() < 0.5:
            row["region"] = None
    events = [
        {
            "enterprise_id": r.choice(PARTIES),
            "kind": r.choice(CHANGES[:3] if r.random() < 0.6 else CHANGES),
            "date": day_text(r.randrange(-60, 60)),
        }
        for _ in range(r.choice((0, 4, 12)))
    ]
    papers = {"shops": shops, "territories": territories, "licence_events": events}
    return tuple(licensed), {name: tuple(rows) for name, rows in papers.items()}


def make_case(r: random.Random, codes: int, events: int) -> Case:
    """Return a registry and a history."""
    enterprises, drugs, recalls = make_registry(r)
    rows = history(r, codes, events)
    enterprises, papers = with_papers(r, enterprises)
    return Case(enterprises, drugs, recalls, rows, papers)


def _stamp(r: random.Random, day: int, dated: float) -> str:
    clock = "00:00:00" if r.random() < dated else r.choice(CLOCK)
    return f"{day_text(day)} {clock}"


def _attributes(r: random.Random, row: Row) -> Row:
    """Add what a bill may also carry."""
    if r.random() < 0.5:
        row["unit_price"] = r.choice((0.0, 9.0, 10.0, 10.0, 12.5, 20.0))
    if r.random() < 0.6:
        row["bill_code"] = r.choice(("B1", "B2", "B3"))
    if r.random() < 0.3:
        row["from_region"] = r.choice(REGIONS)
    if r.random() < 0.2:
        row["to_region"] = r.choice(REGIONS)
    if r.random() < 0.5:
        row["batch_no"] = r.choice(("L1", "L2"))
    if r.random() < 0.2:
        row["expiry_date"] = r.choice((day_text(1), day_text(400), "2027-05"))
    if r.random() < 0.1:
        row["production_date"] = r.choice((day_text(-100), day_text(2)))
    if r.random() < 0.3:
        row["quantity"] = r.choice((1, 2, 3, 3, 12))
    if r.random() < 0.1:
        row["gift"] = True
    if r.random() < 0.4:
        lag = r.choice((0, 1, 6, 7, 8, 20))
        row["record_time"] = f"{row['event_time'][:10]} 23:00:00" if lag == 0 else _later(row, lag)
    if r.random() < 0.05:
        row["drug_id"] = r.choice((*DRUGS, "7777777"))
    if row["event_type"] in ("321", "322", "323"):
        row["split_sale"] = r.random() < 0.3
        if r.random() < 0.5:
            row["buyer_id"] = r.choice(("U1", "U2"))
        if r.random() < 0.3:
            row["order_code"] = r.choice(("O1", "O2"))
        if r.random() < 0.3:
            row["platform_id"], row["shop_id"] = "T1", "S1"
        if r.random() < 0.5:
            row["rx_no"] = r.choice(("R1", "R2", "R3"))
            row["doctor_id"] = r.choice((None, "D1", "D2"))
        for name, values in (
            ("pharmacist_id", "A"), ("contact_id", "KL"), ("address_id", "MN"),
            ("buyer_device_id", "VW"),
        ):  # fmt: skip
            if r.random() < 0.2:
                row[name] = r.choice(values)
    if r.random() < 0.2:
        row["temperature"] = r.choice((-20.0, 1.0, 5.0, 5.0, 9.5))
    return row


def _later(row: Row, days: int) -> str:
    import datetime as dt

    return str(dt.datetime.fromisoformat(row["event_time"]) + dt.timedelta(days=days))


def noise(r: random.Random, code: str, count: int, span: int, dated: float) -> list[Row]:
    """Return events of one code that make no sense together."""
    rows = []
    for _ in range(count):
        row: Row = {
            "event_time": _stamp(r, r.randrange(span), dated),
            "event_type": r.choice(ANY_TYPE),
            "code": code,
            "actor_id": r.choice(PARTIES),
        }
        if r.random() < 0.6:
            row["from_id"] = r.choice(PARTIES)
        if r.random() < 0.6 and row["event_type"] not in ("321", "322", "323"):
            row["to_id"] = r.choice(PARTIES)
        rows.append(_attributes(r, row))
    return rows


def chain(r: random.Random, code: str, length: int, dated: float) -> list[Row]:
    """Return a plausible life: made, passed on with bills on both sides, sold, and then some."""
    day, holder = 0, r.choice(PARTIES)
    rows: list[Row] = []
    pace = r.choice((0, 0, 1, 3, 12))

    def add(kind: str, actor: str, **more: Any) -> None:
        row: Row = {"event_time": _stamp(r, day, dated), "event_type": kind}
        rows.append(_attributes(r, {**row, "code": code, "actor_id": actor, **more}))

    if r.random() < 0.7:
        add(r.choice(("101", "commissioning")), holder)
    for _ in range(length):
        day += r.randint(0, pace)
        step = r.random()
        other = r.choice(PARTIES)
        if step < 0.6:
            add(r.choice(OUTGOING), holder, to_id=other)
            day += r.randint(0, min(pace, 2))
            add(r.choice(INCOMING), other, from_id=holder)
            holder = other
        elif step < 0.7:
            add("202", holder, to_id=other)
            add("103", other, from_id=holder)
            holder = other
        elif step < 0.78:
            add("203", holder, to_id=other)
            add("104", other, from_id=holder)
        elif step < 0.9:
            add(r.choice(("321", "323")), holder)
            if r.random() < 0.4:
                add("116", holder)
        elif step < 0.94:
            add(r.choice(("205", "206", "216")), holder)
        elif step < 0.97:
            add("211", holder, to_id=other)
        else:
            add("111", holder)
    kept = [row for row in rows if r.random() < 0.9]
    for row in kept:
        if r.random() < 0.08:
            row.pop("from_id", None)
        if r.random() < 0.04:
            row.pop("to_id", None)
        if r.random() < 0.05:
            row["from_id"] = r.choice(PARTIES)
    return kept


def finish(r: random.Random, rows: list[Row]) -> tuple[Row, ...]:
    """Give ids, make some events void, upload some twice, and shuffle."""
    named: list[Row] = []
    for number, row in enumerate(rows):
        if r.random() < 0.95:
            row = {"event_id": f"E{number}", **row}
        named.append(row)
    for number in range(len(rows)):
        if r.random() < 0.04:
            target = r.choice(rows)
            named.append(
                {
                    "event_id": f"V{number}",
                    "event_time": _later(target, r.choice((0, 0, 1, 40))),
                    "event_type": "void",
                    "code": target["code"],
                    "actor_id": target["actor_id"],
                    "voids_event_id": r.choice((f"E{rows.index(target)}", f"V{number - 1}", "X")),
                }
            )
    for row in list(named):
        if r.random() < 0.05:
            again = dict(row)
            if r.random() < 0.5:
                again["record_time"] = _later(row, 2)
            named.append(again)
    r.shuffle(named)
    return tuple(named)


def history(r: random.Random, codes: int, events: int) -> tuple[Row, ...]:
    """Return rows of ``codes`` codes with up to about ``events`` events each."""
    rows: list[Row] = []
    for number in range(codes):
        code = CODES[number] if number < len(CODES) else f"{DRUGS[number % 2]}{number:013d}"
        dated = r.choice((0.0, 0.1, 0.5, 1.0))
        count = r.randint(1, events)
        if r.random() < 0.4:
            rows += noise(r, code, count, r.choice((1, 2, 6, 80)), dated)
        else:
            rows += chain(r, code, max(1, count // 2), dated)
    return finish(r, rows)


def case_of(seed: int, codes: int = 3, events: int = 10) -> Case:
    """Return the case of a seed: the same for ever."""
    r = random.Random(seed)
    return make_case(r, codes, events)


def cases(codes: int = 3, events: int = 10) -> st.SearchStrategy[Case]:
    """Return a strategy of cases (drawn through hypothesis' own randomness, so they shrink)."""
    return st.builds(
        lambda r: make_case(r, codes, events),
        st.randoms(use_true_random=False),
    )

"""Dense random histories of shops, platforms, cold chains and distributors, by detector."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

from tests.conformance.strategies import Case, Row

RX, COUGH, COLD = "8100001", "8100002", "8100070"
PARTIES: tuple[tuple[str, str, str, str | None], ...] = (
    ("P0", "pharmacy", "310115", None),
    ("P1", "pharmacy", "440106", None),
    ("C1", "chain_store", "320104", "CHAIN"),
    ("C2", "chain_store", "320105", "CHAIN"),
    ("H1", "public_hospital", "310115", None),
    ("W1", "wholesaler", "310115", None),
    ("W2", "wholesaler", "440106", None),
)
PROVINCES = ("110101", "310101", "440103", "510104", "320102", "130102")
SHOPS = ("P0", "P1", "C1", "C2", "H1", "STRANGER")
BEGIN = dt.datetime(2025, 3, 1)  # noqa: DTZ001 (wall clock of Shanghai)


def registry() -> dict[str, tuple[Row, ...]]:
    """Return the tables of the registry."""
    enterprises: list[Row] = [
        {"enterprise_id": name, "name": name, "type": kind, "region": region, "group_id": group}
        for name, kind, region, group in PARTIES
    ]
    for number in range(80):
        region = PROVINCES[number % len(PROVINCES)]
        enterprises.append({"enterprise_id": f"B{number}", "type": "pharmacy", "region": region})
    drugs = (
        {"drug_id": RX, "generic_name": "阿托伐他汀钙片", "classes": "rx"},
        {"drug_id": COUGH, "generic_name": "复方盐酸伪麻黄碱缓释胶囊", "classes": "ephedrine_compound"},
        {"drug_id": COLD, "generic_name": "甘精胰岛素注射液", "classes": "rx;cold_chain"},
    )  # fmt: skip
    return {"enterprises": tuple(enterprises), "drugs": drugs}


class Book:
    """Collects rows on codes of their own."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.rows: list[Row] = []

    def add(self, kind: str, giver: str, time: dt.datetime, drug: str = RX, **more: Any) -> None:
        number = len(self.rows)
        row: Row = {
            "event_id": f"E{number}",
            "event_time": str(time),
            "event_type": kind,
            "code": f"{drug}{number:013d}",
            "actor_id": giver,
            "from_id": giver,
        }
        self.rows.append(row | {name: value for name, value in more.items() if value is not None})

    def when(self, day: float, *, dated: float = 0.1) -> dt.datetime:
        """Return a time on a day, to the second, or the day alone."""
        date = BEGIN + dt.timedelta(days=int(day))
        if self.r.random() < dated:
            return date
        return date + dt.timedelta(seconds=self.r.randrange(8 * 3600, 20 * 3600))

    def one(self, *options: Any) -> Any:
        return self.r.choice(options)

    def spoil(self) -> None:
        """Take some sales back, make some void, and shuffle."""
        for row in list(self.rows):
            if row["event_type"] in ("321", "323") and self.r.random() < 0.05:
                time = dt.datetime.fromisoformat(row["event_time"])
                time += dt.timedelta(hours=self.one(0, 1, 30))
                void = self.one(True, False)
                self.rows.append(
                    {
                        "event_id": f"X{len(self.rows)}",
                        "event_time": str(time),
                        "event_type": "void" if void else "116",
                        "code": row["code"],
                        "actor_id": row["actor_id"],
                        **({"voids_event_id": row["event_id"]} if void else {}),
                    }
                )
        self.r.shuffle(self.rows)

    def case(self) -> Case:
        """Return the case."""
        tables = registry()
        self.spoil()
        return Case(
            enterprises=tables["enterprises"],
            drugs=tables["drugs"],
            recalls=({"drug_id": "0", "effective": "2099-01-01"},),
            rows=tuple(self.rows),
        )  # fmt: skip


def statements(seed: int) -> Case:
    """Shops that state prescriptions and buyers always, mostly, never, or all of a sudden no more."""
    book = Book(seed)
    r = book.r
    paper = r.choice(SHOPS)
    honest = 1.0 if seed % 2 else 0.98
    bad = r.sample(SHOPS, 2) if seed % 3 else []
    turn = r.randrange(25, 45)
    for day in range(50):
        for shop in SHOPS:
            for _ in range(r.randrange(4)):
                online = r.random() < 0.6
                rx, name = (0.2, 0.2) if shop in bad and day >= turn else (honest, honest)
                if shop == paper and not online:
                    rx = 0.0
                book.add(
                    book.one("321", "321", "323"),
                    shop,
                    book.when(day),
                    book.one(RX, RX, COLD, COUGH),
                    rx_no=f"R{len(book.rows)}" if r.random() < rx else None,
                    buyer_id=f"U{r.randrange(50)}" if r.random() < name else None,
                    platform_id=book.one("T1", "T1", None) if online else None,
                    shop_id=f"SHOP{shop}" if online else None,
                    order_code=f"O{len(book.rows) // 2}" if r.random() < 0.3 else None,
                )
    return book.case()


def reuses(seed: int) -> Case:
    """Few prescription numbers, many dispensings."""
    book = Book(seed)
    r = book.r
    numbers = [f"R{k}" for k in range(r.choice((5, 30)))]
    doctor = {number: r.choice(("D1", "D2", None)) for number in numbers}
    buyer = {number: r.choice(("U1", "U2", "U3", None)) for number in numbers}
    drug = {number: r.choice((RX, COLD)) for number in numbers}
    for _ in range(120):
        number = r.choice(numbers)
        other = r.random() < 0.06
        book.add(
            "321",
            r.choice(SHOPS),
            book.when(r.choice((r.randrange(100), r.randrange(6))), dated=0.2),
            book.one(RX, COLD) if other else drug[number],
            rx_no=number,
            doctor_id=book.one("D1", "D2") if other else doctor[number],
            buyer_id=book.one("U1", "U2", "U3", "U4", None) if r.random() < 0.3 else buyer[number],
            order_code=f"O{r.randrange(20)}" if r.random() < 0.3 else None,
            bill_code=f"B{r.randrange(20)}" if r.random() < 0.3 else None,
        )
    return book.case()


def mills(seed: int) -> Case:
    """Doctors and pharmacists whose names stand for many sales in few hours."""
    book = Book(seed)
    r = book.r
    for day in r.sample(range(60), 3):
        hours = r.choice((1, 2, 6))
        shops = r.sample(SHOPS, r.choice((1, 2, 3)))
        for k in range(r.choice((60, 100, 160))):
            start = dt.datetime.combine((BEGIN + dt.timedelta(days=day)).date(), dt.time(9))
            second = r.choice((k, r.randrange(hours * 3600), r.randrange(hours * 3600)))
            time = start + dt.timedelta(seconds=second)
            number = f"R{day}-{r.randrange(200) if r.random() < 0.2 else k}"
            book.add(
                "321",
                r.choice(shops),
                time.replace(hour=0, minute=0, second=0) if r.random() < 0.05 else time,
                rx_no=number if r.random() < 0.95 else None,
                doctor_id=book.one("D1", "D1", "D1", "D2", None),
                pharmacist_id=book.one("A1", "A1", "A1", "A2", None),
                shop_id="SHOP" if r.random() < 0.05 else None,
                order_code=f"O{k // 2}" if r.random() < 0.2 else None,
            )
    return book.case()


def splits(seed: int) -> Case:
    """Cold medicine for people who share telephones, addresses and devices."""
    book = Book(seed)
    r = book.r
    people = r.choice((4, 12))
    for day in r.sample(range(40), 4):
        for k in range(r.choice((6, 14))):
            book.add(
                "321",
                r.choice(SHOPS),
                book.when(day + r.choice((0, 0, 1)), dated=0.2),
                COUGH,
                quantity=r.choice((1, 1, 2)),
                buyer_id=f"U{r.randrange(people)}" if r.random() < 0.9 else None,
                contact_id=f"K{r.randrange(4)}" if r.random() < 0.4 else None,
                address_id=f"A{r.randrange(3)}" if r.random() < 0.5 else None,
                buyer_device_id=f"V{r.randrange(9)}" if r.random() < 0.3 else None,
                order_code=f"O{day}-{k // 2}" if r.random() < 0.6 else None,
                rx_no="R" if r.random() < 0.05 else None,
            )
    for _ in range(40):
        book.add(
            "321",
            r.choice(SHOPS),
            book.when(r.randrange(40)),
            RX,
            buyer_id=f"U{r.randrange(30)}",
            contact_id=book.one("K0", None),
            address_id=book.one("A0", "A9"),
        )
    return book.case()


def cold_chains(seed: int) -> Case:
    """Distributors that read temperatures always, mostly or never."""
    book = Book(seed)
    r = book.r
    habits = {shop: r.choice((1.0, 1.0, 0.98, 0.0)) for shop in ("W1", "W2")}
    turn = r.randrange(20, 45)
    for day in range(50):
        for giver, habit in habits.items():
            for bill in range(r.randrange(3)):
                reads = r.random() < (habit if day < turn or r.random() < 0.5 else 0.1)
                for _ in range(r.randrange(1, 3)):
                    usual = r.choice((2.0, 5.1, 8.4, 8.5))
                    odd = r.choice((8.51, 1.4, -20.0, 70.0, 12.0))
                    kind = book.one("201", "201", "203", "202", "321")
                    to = book.one("P0", "C1", None)
                    book.add(
                        kind,
                        giver,
                        book.when(day),
                        book.one(COLD, COLD, COLD, RX),
                        to_id=None if kind == "321" else to,
                        bill_code=f"B{day}-{giver}-{bill}" if r.random() < 0.9 else None,
                        temperature=(usual if r.random() < 0.97 else odd) if reads else None,
                    )
    return book.case()


def flows(seed: int) -> Case:
    """Five months of shipments of two distributors; in one of them they may go elsewhere."""
    book = Book(seed)
    r = book.r
    home, away = r.sample(range(6), 2)
    month = r.choice((3, 4))
    way = ("all", "one customer", "one drug", "none")[seed % 4]
    for day in range(190):
        late = BEGIN + dt.timedelta(days=day)
        shifted = (late.year - 2025) * 12 + late.month - 3 == month
        for giver in ("W1", "W2"):
            for k in range(r.choice((1, 2, 4))):
                drug = r.choice((RX, COLD))
                goal = home if r.random() < 0.8 else r.randrange(6)
                customer = goal + 6 * r.randrange(12)
                if shifted and way == "all" and r.random() < 0.9:
                    customer = away + 6 * r.randrange(12)
                if shifted and way == "one customer" and r.random() < 0.9:
                    customer = away
                if shifted and way == "one drug" and drug == RX:
                    customer = away + 6 * r.randrange(12)
                to = f"B{customer}"
                book.add("201", giver, book.when(day), drug, to_id=to, bill_code=f"B{day}-{k}")
        if r.random() < 0.8:
            book.add(
                "321",
                "P0",
                book.when(day),
                platform_id="T1",
                buyer_id=f"U{r.randrange(300)}" if r.random() < 0.9 else None,
                to_region=r.choice(PROVINCES[away:] if shifted else PROVINCES[: home + 1]),
            )
    return book.case()


MAKERS = {
    "no_prescription": statements,
    "no_real_name": statements,
    "prescription_reuse": reuses,
    "prescription_mill": mills,
    "pharmacist_overload": mills,
    "split_purchase": splits,
    "cold_chain_gap": cold_chains,
    "flow_shift": flows,
}

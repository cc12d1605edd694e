"""Random histories in which enterprises scan: the same few devices, bills, serials and moments.

Small thresholds (:data:`POLICY`) go with them, so that a few dozen events make a finding.
"""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

Row = dict[str, Any]

DAYS = 24
START = dt.datetime(2025, 3, 1)  # noqa: DTZ001 (wall clock of Shanghai)
RETAILERS = ("P0", "P1", "P2", "P3", "P4", "P5")
DISTRIBUTORS = ("W0", "W1", "W2", "W3", "W4", "W5", "W6", "W7")
REGIONS = ("310115", "310104", "440106", "110101", "440000")
PREFIXES = ("8123456", "8654321")

POLICY = """
[policy]
name = "small"
extends = "default"
"""
SMALL: dict[str, dict[str, float]] = {
    "proxy_scanning": {
        "run_codes": 4,
        "same_time_codes": 2,
        "quick_codes": 1,
        "days": 6,
        "most_enterprises": 4,
        "enterprises": 2,
    },
    "serial_run": {"serials": 3, "sales": 2},
    "copied_receipt": {"codes": 3, "chance": 0.2, "seconds_per_100_codes": 150.0},
    "record_tampering": {
        "days": 8,
        "minimum_acts": 1,
        "minimum_events": 2,
        "minimum_peers": 2,
        "sigma": 0.5,
        "chance": 0.9,
    },
    "incomplete_scanning": {"days": 8, "settle_days": 2, "minimum_bills": 2, "minimum_due": 4},
    "disjoint_business": {"days": 6, "customers": 1, "dealings": 1, "pause_days": 3},
}


def policy_text() -> str:
    """Return a policy with the small thresholds."""
    lines = [POLICY]
    for detector, values in SMALL.items():
        lines.append(f"[detectors.{detector}]")
        lines += [
            f'{name} = {{ value = {value}, unit = "1", source = "proposed", '
            "effective_from = 2020-01-01 }"
            for name, value in values.items()
        ]
    return "\n".join(lines) + "\n"


def registry(r: random.Random) -> dict[str, tuple[Row, ...]]:
    """Return a registry of retailers, clinics and distributors; one of each is not in it."""
    rows = []
    for party in (*RETAILERS[:-1], *DISTRIBUTORS[:-1]):
        retail = party in RETAILERS
        region = r.choice(REGIONS)
        kinds = ("pharmacy", "pharmacy", "chain_store", "medical") if retail else ("wholesaler",)
        rows.append(
            {
                "enterprise_id": party,
                "type": r.choice(kinds),
                "region": region if r.random() < 0.95 else None,
                "group_id": r.choice((None, None, None, None, "G1")),
                "warehouse_regions": r.choice((None, None, None, region, r.choice(REGIONS))),
            }
        )
    return {"enterprises": tuple(rows)}


class Story:
    """Writes events, each stretch of scans in one of the ways people and machines scan."""

    def __init__(self, r: random.Random) -> None:
        self.r = r
        self.rows: list[Row] = []
        self.serial = 100
        self.bills = 0

    def codes(self, count: int) -> list[str]:
        """Return codes, mostly with consecutive serials."""
        prefix = self.r.choice(PREFIXES)
        found = []
        for _ in range(count):
            self.serial += 1 if self.r.random() < 0.9 else self.r.randint(2, 3)
            found.append(f"{prefix}{self.serial:09d}{self.r.randrange(10**4):04d}")
        return found

    def times(self, day: float, count: int) -> list[dt.datetime]:
        """Return scan times of one stretch."""
        r = self.r
        start = START + dt.timedelta(
            days=int(day), hours=r.randint(8, 20), seconds=r.randint(1, 59)
        )
        if r.random() < 0.15:
            return [START + dt.timedelta(days=int(day))] * count
        if r.random() < 0.15:
            return [start] * count
        pace = r.choice((0.04, 0.1, 0.5, 1.0, 1.0, 7.0, 40.0))
        shake = r.choice((0.0, 0.0, 0.5, 1.0))
        found, at = [], start
        for _ in range(count):
            found.append(at)
            at += dt.timedelta(seconds=pace * (1 + shake * (r.random() - 0.5)))
        if r.random() < 0.3:
            found = [time.replace(microsecond=0) for time in found]
        if r.random() < 0.2:
            r.shuffle(found)
        return found

    def bill(self) -> str | None:
        """Return a bill number; one in ten bills has none."""
        self.bills += 1
        return f"B{self.bills}" if self.r.random() < 0.9 else None

    def add(self, kind: str, code: str, time: dt.datetime, actor: str, **more: Any) -> Row:
        """Write one event."""
        row: Row = {
            "event_id": f"E{len(self.rows)}",
            "event_time": str(time),
            "event_type": kind,
            "code": code,
            "actor_id": actor,
            **{name: value for name, value in more.items() if value is not None},
        }
        r = self.r
        if r.random() < 0.03:
            row["pack_level"] = r.choice((1, 2))
        if r.random() < 0.02:
            row["parent_code"] = f"{code[:7]}9{code[8:16]}0000"
        if r.random() < 0.03:
            row["quantity"] = 3
        if r.random() < 0.12:
            row["record_time"] = str(time + dt.timedelta(days=r.choice((0, 7, 8, 9, 12))))
        self.rows.append(row)
        return row

    def hand(self, party: str) -> dict[str, str | None]:
        """Return device and operator of a stretch: mostly the party's own."""
        r = self.r
        device = r.choice((f"D{party}", f"D{party}", "DX", "DY", None))
        operator = r.choice((f"O{party}", "OX", None, None))
        return {"device_id": device, "operator_id": operator}

    def deal(self, day: int) -> None:
        """A distributor ships to another party, which receives the goods and may sell them."""
        r = self.r
        giver = r.choice(DISTRIBUTORS)
        receiver = r.choice(RETAILERS if r.random() < 0.6 else DISTRIBUTORS)
        codes = self.codes(r.randint(1, 9))
        bill, answer = self.bill(), self.bill()
        shipped = self.times(day, len(codes))
        hand = self.hand(giver)
        region = r.choice((None, *REGIONS))
        for code, time in zip(codes, shipped, strict=True):
            self.add(
                "sale_shipment", code, time, giver, from_id=giver, to_id=receiver,
                bill_code=bill, from_region=region, **hand,
            )  # fmt: skip
        days_later = r.choice((0, 0, 1, 2))
        way = r.random()
        if way < 0.5:  # copied: in the order of the shipment, at another pace
            pace = r.choice((0.02, 0.2, 1.0))
            order = sorted(set(shipped))
            begin = max(shipped) + dt.timedelta(days=days_later, seconds=r.choice((1, 300, 9000)))
            received = [begin + dt.timedelta(seconds=pace * order.index(time)) for time in shipped]
        else:
            received = self.times(day + days_later, len(codes))
        hand = self.hand(receiver)
        due = r.choice((None, len(codes), len(codes), len(codes) + 1, 2 * len(codes)))
        region = r.choice((None, *REGIONS))
        for code, time in zip(codes, received, strict=True):
            if r.random() < 0.05:
                time += dt.timedelta(days=r.choice((1, 2, 3, 4)))
            stated = due if r.random() < 0.97 else None
            self.add(
                "purchase_receipt", code, time, receiver, from_id=giver, to_id=receiver,
                bill_code=answer, receivable=stated, to_region=region, **hand,
            )  # fmt: skip
        if receiver in RETAILERS and r.random() < 0.7:
            quick = r.random() < 0.3
            if quick:
                sold = [time + dt.timedelta(seconds=r.choice((2, 30, 61))) for time in received]
            else:
                sold = self.times(day + days_later + r.choice((0, 1, 3)), len(codes))
            self.sales(codes, sold, receiver)

    def sales(self, codes: list[str], times: list[dt.datetime], seller: str) -> None:
        """Sell codes to persons."""
        r = self.r
        hand, one_bill = self.hand(seller), r.random() < 0.2
        bill = self.bill()
        for code, time in zip(codes, times, strict=True):
            sale = self.add(
                r.choice(("retail_sale",) * 9 + ("dispensing",)), code, time, seller,
                from_id=seller, bill_code=bill if one_bill else self.bill(),
                buyer_id=r.choice((None, None, "U1")), **hand,
            )  # fmt: skip
            if r.random() < 0.1:
                later = time + dt.timedelta(hours=r.choice((1, 23, 25, 60)))
                self.add("void", code, later, seller, voids_event_id=sale["event_id"])
        if r.random() < 0.1:
            self.add("code_replacement", codes[0], times[0], seller)


def history(r: random.Random, deals: int) -> tuple[Row, ...]:
    """Return the events of some deals, in no order."""
    story = Story(r)
    for _ in range(deals):
        story.deal(r.randrange(DAYS))
    r.shuffle(story.rows)
    return tuple(story.rows)

"""Sales that category, quantity and price forbid, from the definitions in their detectors' modules."""

from __future__ import annotations

import datetime as dt
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.reference.events import DAY, Event, day_of
from tests.reference.history import NOBODY, History, RawHit, hit
from tests.reference.licences import DISPENSING, SPECIAL, told_of
from tests.reference.state import Enriched
from tests.reference.world import World
from trace_engine.core import signals as s
from trace_engine.events.kinds import EventKind, Role

MEDICAL = {"medical", "public_hospital"}
TRADES = (MEDICAL, {"pharmacy", "chain_store"})


def new_sales(history: History) -> list[Enriched]:
    """Return the new sales to persons by time."""
    return [
        row
        for row in history.by_time()
        if row.event.role == Role.PERSON_SALE and row.has(s.NEW_SALE)
    ]


def packs_of(event: Event) -> int:
    return 1 if event.split else max(event.quantity, 1)


# ---------------------------------------------------------------- psychotropic_sale


def scope_lacks(world: World, event: Event, name: str) -> bool:
    """Whether the giver's scope is on record, understood, held on that day, and lacks a class."""
    scope = set(world.text(event.giver, "scope").split(";")) - {""}
    understood = scope <= SPECIAL | DISPENSING | {"cold_chain"}
    changes = [day for day, kind in told_of(world, event.giver or "") if kind == "scope_change"]
    held = all(event.day >= day for day in changes)
    return bool(scope) and understood and held and name not in scope


def psychotropic_sale(history: History) -> list[RawHit]:
    p, world = history.p("psychotropic_sale"), history.world
    hits = []
    stated: Counter[str | None] = Counter()
    unstated: Counter[str | None] = Counter()
    pending: list[tuple[Counter[str | None], str | None]] = []
    today = None
    for row in new_sales(history):
        event = row.event
        if event.day != today:
            for counter, seller in pending:
                counter[seller] += 1
            pending, today = [], event.day
        classes = world.classes(event.drug)
        first = "psychotropic_1" in classes
        if not first and "psychotropic_2" not in classes:
            continue
        kind = world.kind(event.giver)
        handed_out = event.kind in (EventKind.VACCINATION, EventKind.DISPENSING)
        shop = bool(kind) and kind not in MEDICAL and not handed_out
        fires = (
            (shop and first)
            or event.online
            or (shop and scope_lacks(world, event, "psychotropic_2"))
        )
        if not fires and shop:
            before, without = stated[event.giver], unstated[event.giver]
            usual = before >= p.minimum_statements and before >= p.share * (before + without)
            fires = usual and not event.prescription
            pending.append((stated if event.prescription else unstated, event.giver))
        if fires:
            hits.append(hit("psychotropic_sale", row, max(event.quantity, 1)))
    return hits


# ---------------------------------------------------------------- gift_sale


def gift_sale(history: History) -> list[RawHit]:
    p, world = history.p("gift_sale"), history.world
    lines: list[tuple[Enriched, str]] = []
    for row in history.by_time():
        event = row.event
        to_person = event.buyer is not None or event.online
        if event.giver is None:
            continue
        if event.kind == EventKind.GIFT_SHIPMENT and event.receiver is None and to_person:
            lines.append((row, "given"))
        elif (
            event.kind == EventKind.RETAIL_SALE
            and row.has(s.NEW_SALE)
            and world.kind(event.giver) not in MEDICAL
        ):
            if event.gift:
                lines.append((row, "given"))
            elif event.price is not None:
                lines.append((row, "free" if event.price == 0 else "priced"))
    by_day: defaultdict[tuple[str | None, int], Counter[str]] = defaultdict(Counter)
    for row, what in lines:
        by_day[row.event.giver, row.event.day][what] += 1
    hits = []
    for row, what in lines:
        event = row.event
        classes = world.classes(event.drug)
        if what == "priced" or event.split or not classes & {"rx", "otc_a"}:
            continue
        before: Counter[str] = Counter()
        for (seller, day), counts in by_day.items():
            if seller == event.giver and day < event.day:
                before += counts
        now = by_day[event.giver, event.day]
        usual = (
            before["priced"] >= p.minimum_priced
            and before["free"] <= p.maximum_free * (before["priced"] + before["free"])
            and now["free"] <= now["priced"]
        )
        if what == "given" or usual:
            hits.append(hit("gift_sale", row, max(event.quantity, 1)))
    return hits


# ---------------------------------------------------------------- unapproved_product


def foreign_gtin(text: str) -> bool:
    """Whether an identifier is a GTIN-14 that another country gave out."""
    if not re.fullmatch("[0-9]{14}", text):
        return False
    prefix = text[1:4]
    home = "690" <= prefix <= "699"
    own = "020" <= prefix <= "029" or "040" <= prefix <= "049" or "200" <= prefix <= "299"
    return not home and not own and "001" <= prefix < "977"


def good_approval(number: str) -> bool:
    pattern = r"国药准字(?:[HZSJTFB]|[HZS][CJ])\d{8}|[HZSB]C?\d{8}|.药制(?:备)?字[HZS]\d{8,14}"
    return re.fullmatch(pattern, number.replace(" ", "")) is not None


def approval_case(world: World, event: Event, renewal_days: int) -> float | None:
    """Return what a finding observes, or None."""
    entry = next((world.drugs[d] for d in (event.drug, event.code_drug) if d in world.drugs), None)
    number = str((entry or {}).get("approval_no") or "").replace(" ", "")
    exempt = set(str((entry or {}).get("classes") or "").split(";"))
    if exempt & {"hospital_preparation", "tcm_granules"}:
        return None
    if not number:
        abroad = foreign_gtin(event.code_drug or event.drug or "")
        return 1 if abroad and event.code_problem == 0 else None
    if not good_approval(number):
        return 1
    assert entry is not None
    ends = entry.get("valid_to")
    if ends and event.production is not None:
        late = event.production - day_of(ends)
        if late > renewal_days:
            return 1
    begins = entry.get("valid_from")
    if begins and number[-8:-4] == str(begins)[:4] and event.day < day_of(begins):
        return 1
    return None


def unapproved_product(history: History) -> list[RawHit]:
    renewal = history.p("unapproved_product").renewal_days
    hits = []
    for row in history if history.world.drugs else ():
        event = row.event
        traded = event.role in (Role.SHIP, Role.PERSON_SALE) and event.giver is not None
        if not traded or (event.drug is None and event.code_drug is None):
            continue
        observed = approval_case(history.world, event, renewal)
        if observed is not None:
            hits.append(hit("unapproved_product", row, observed))
    return hits


# ---------------------------------------------------------------- price_markup


def price_markup(history: History) -> list[RawHit]:
    p, world = history.p("price_markup"), history.world
    hits = []
    for row in history:
        event = row.event
        price, cost = event.price or 0, row.cost or 0
        if (
            event.role != Role.SHIP
            or event.kind in (EventKind.DIRECT_SHIPMENT, EventKind.GIFT_SHIPMENT)
            or event.gift
            or event.giver is None
            or event.receiver in (None, event.giver)
            or price <= 0
            or cost <= 0
        ):
            continue
        dear = price >= p.ratio * cost and price - cost >= p.minimum_difference * 100
        if not dear or price > p.maximum_ratio * cost:
            continue
        before = row.previous
        if world.related(event.giver, event.receiver):
            continue
        if (
            before is not None
            and before.receiver == event.giver
            and before.giver is not None
            and in_one_group(world, before.giver, event.giver)
        ):
            continue
        hits.append(hit("price_markup", row, price / 100))
    return hits


def in_one_group(world: World, a: str | None, b: str | None) -> bool:
    group = world.text(a, "group_id")
    return group != "" and group == world.text(b, "group_id")


# ---------------------------------------------------------------- sale_exceeds_purchase


@dataclass
class Book:
    """What came to and left a holder of one product and batch."""

    received: int = 0
    sold: int = 0
    made: int | None = None
    drugs: set[str] = field(default_factory=set)
    unstated: bool = False
    whole_cases: bool = False
    fired: int = 0
    sales: list[Enriched] = field(default_factory=list)  # of the day

    def enter(self, event: Event) -> None:
        assert event.drug is not None
        self.drugs.add(event.drug)
        if not event.quantity_stated:
            self.unstated = True
            self.whole_cases = self.whole_cases or (event.pack_level or 0) > 1
        if event.production is not None:
            self.made = event.production if self.made is None else min(self.made, event.production)

    def judge(self, p: object) -> bool:
        excess = self.sold - self.received
        if not self.sold > self.received * (1 + p.tolerance):  # type: ignore[attr-defined]
            self.fired = 0
            return False
        unsure = self.whole_cases or (self.unstated and len(self.drugs) > 1)
        enough = excess >= p.minimum_packs and excess >= 2 * self.fired  # type: ignore[attr-defined]
        if unsure or self.received == 0 or not enough:
            return False
        self.fired = excess
        return True


IN_FROM_OTHERS = {
    Role.RETURN_SHIP,
    Role.RETURN_RECEIVE,
    Role.TRANSFER_SHIP,
    Role.TRANSFER_RECEIVE,
    Role.RECALL_SHIP,
    Role.RECALL_RECEIVE,
}
IN_ANYWAY = {Role.ORIGIN, Role.CONSUMER_RETURN, Role.STOCK_GAIN}


def sale_exceeds_purchase(history: History) -> list[RawHit]:
    p, world = history.p("sale_exceeds_purchase"), history.world
    books: defaultdict[tuple[str, str, str], Book] = defaultdict(Book)
    hits = []
    by_day: defaultdict[int, list[Enriched]] = defaultdict(list)
    for row in history.by_time() if world.enterprises else ():
        by_day[row.event.day].append(row)

    def trades(party: str | None) -> bool:
        return world.known(party) and world.kind(party) not in ("mah", "manufacturer")

    def book(party: str | None, event: Event) -> Book:
        assert event.drug is not None
        assert event.batch_no is not None
        holder = f"group {world.text(party, 'group_id')}"
        approval = str(world.drugs.get(event.drug, {}).get("approval_no") or "")
        return books[
            holder if holder != "group " else f"party {party}",
            approval or event.drug,
            event.batch_no,
        ]

    for day in sorted(by_day):
        for row in by_day[day]:
            event = row.event
            inside = world.related(event.giver, event.receiver)
            if event.role == Role.PERSON_SALE:
                sold = row.has(s.NEW_SALE)
            else:
                sold = (
                    event.role == Role.SHIP
                    and row.has(s.HOP)
                    and event.kind != EventKind.DIRECT_SHIPMENT
                    and not inside
                )
            comes = event.role in IN_ANYWAY or (
                event.role != Role.PERSON_SALE
                and not inside
                and (row.has(s.HOP | s.REDIRECTED) or event.role in IN_FROM_OTHERS)
            )
            if event.drug is None or event.batch_no is None:
                continue
            if comes and trades(event.receiver):
                held = book(event.receiver, event)
                held.enter(event)
                held.received += packs_of(event)
            if sold and trades(event.giver):
                held = book(event.giver, event)
                held.enter(event)
                held.sold += packs_of(event)
                held.sales.append(row)
        for held in books.values():
            if held.sales:
                lead, held.sales = held.sales[0], []
                stands = held.judge(p) and held.made is not None
                if stands and history.data_begin <= (held.made or 0) * DAY:
                    hits.append(hit("sale_exceeds_purchase", lead, held.sold, counterparty=NOBODY))
    return hits


# ---------------------------------------------------------------- seller_volume


def month_of(day: int) -> int:
    date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
    return 12 * date.year + date.month - 1


def month_begins(month: int) -> int:
    return (dt.date(month // 12, month % 12 + 1, 1) - dt.date(1970, 1, 1)).days * DAY


def seller_volume(history: History) -> list[RawHit]:
    p, world = history.p("seller_volume"), history.world
    counted: list[tuple[str, str, Enriched, int]] = []  # seller, class, event, packs
    for row in history.by_time():
        event = row.event
        back = event.role == Role.CONSUMER_RETURN
        if not back and not (event.role == Role.PERSON_SALE and row.has(s.NEW_SALE)):
            continue
        seller = event.receiver if back else event.giver
        name = next((n for n in p.classes if n in world.classes(event.drug)), None)
        if seller and name and world.kind(seller) and world.region(seller):
            counted.append((seller, name, row, -packs_of(event) if back else packs_of(event)))
    total: Counter[tuple[str, str, int]] = Counter()
    begun: dict[tuple[str, str], int] = {}
    for seller, name, row, packs in counted:
        month = month_of(row.event.day)
        total[seller, name, month] += packs
        begun.setdefault((seller, name), month)
    last = max((month_of(row.event.day) for _, _, row, _ in counted), default=0)
    hits = []
    for (seller, name, month), packs in total.items():
        months = min(month - begun[seller, name] - 1, 12)
        if month >= last or months < p.minimum_months or packs < p.minimum_packs:
            continue
        past = [total[seller, name, month - k] for k in range(1, months + 1)]
        peers = peers_of(world, total, (seller, name, month), p.minimum_peers)
        if peers is None or history.data_begin > month_begins(month - months):
            continue
        median = statistics.median(peers)
        mad = max(statistics.median([abs(x - median) for x in peers]), 1)
        limit = max(
            max(past[: p.maximum_months]),
            p.mean_ratio * statistics.mean(past),
            median + p.mad_ratio * mad,
        )
        if packs > limit:
            lead = busiest(counted, seller, name, month)
            hits.append(
                hit("seller_volume", lead, packs, seller, NOBODY, time=month_begins(month + 1))
            )
    return hits


def peers_of(
    world: World, total: Counter[tuple[str, str, int]], key: tuple[str, str, int], least: int
) -> list[int] | None:
    """Return the packs of others of the type in the province, or else further afield."""
    seller, name, month = key
    kind, province = world.kind(seller), (world.region(seller) or "")[:2]
    others = {
        other: packs
        for (other, n, m), packs in total.items()
        if (n, m) == (name, month) and other != seller and packs > 0
    }
    alike = {other for other in others if world.kind(other) == kind}
    near = {other for other in alike if (world.region(other) or "")[:2] == province}
    trade = {o for o in others for t in TRADES if kind in t and world.kind(o) in t}
    for peers in (near, alike, trade):
        if len(peers) >= least:
            return [others[other] for other in peers]
    return None


def busiest(
    counted: list[tuple[str, str, Enriched, int]], seller: str, name: str, month: int
) -> Enriched:
    """Return the first event of the day with the most packs."""
    days: defaultdict[int, list[tuple[Enriched, int]]] = defaultdict(list)
    for who, what, row, packs in counted:
        if (who, what) == (seller, name) and month_of(row.event.day) == month:
            days[row.event.day].append((row, packs))
    best = max(sorted(days), key=lambda day: sum(packs for _, packs in days[day]))
    return days[best][0][0]


DETECTORS = {
    "psychotropic_sale": psychotropic_sale,
    "gift_sale": gift_sale,
    "unapproved_product": unapproved_product,
    "price_markup": price_markup,
    "sale_exceeds_purchase": sale_exceeds_purchase,
    "seller_volume": seller_volume,
}

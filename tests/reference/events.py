"""Events as plain records, from simple rows or from an EventBatch.

A *row* is a dict with columns of the canonical event table, every value as a person would write it:
``{"event_id": "e1", "event_time": "2025-03-01 09:30", "event_type": "sale_shipment", ...}``.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trace_engine.events.kinds import INCOMING, INFO, OUTGOING, EventKind, Role, parse_kind

if TYPE_CHECKING:
    import pyarrow as pa

    from trace_engine.events.batch import EventBatch, Vocabulary

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 (wall clock of Shanghai)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """One accepted event. Times are µs of Shanghai wall clock, days since 1970-01-01, price fen.

    ``key``, ``voids``, ``bill``, ``order`` and ``buyer`` are only ever compared for equality
    (``key`` also orders events that nothing else orders).
    """

    event_id: str
    key: int
    content_key: int
    time: int
    kind: EventKind
    code: str
    actor: str
    giver: str | None
    receiver: str | None
    record_time: int | None = None
    from_region: str | None = None
    to_region: str | None = None
    drug: str | None = None
    code_drug: str | None = None
    drug_declared: bool = False
    batch_no: str | None = None
    production: int | None = None
    expiry: int | None = None
    expiry_month_only: bool = False
    quantity: int = 1
    quantity_stated: bool = False
    price: int | None = None
    bill: object | None = None
    order: object | None = None
    buyer: object | None = None
    platform: str | None = None
    shop: str | None = None
    online: bool = False
    split: bool = False
    gift: bool = False
    prescription: bool = False
    voids: int | None = None
    code_problem: int = 0
    parent: str | None = None
    pack_level: int | None = None
    device: str | None = None
    operator: str | None = None
    pharmacist: str | None = None
    doctor: str | None = None
    rx: object | None = None  # the prescription's number, or its hash
    receivable: int | None = None
    temperature: int | None = None  # thousandths of °C
    source_bill: object | None = None  # (supplier, its bill), as ``bill`` of the supplier's upload
    invoice: object | None = None
    contact: object | None = None
    address: object | None = None
    buyer_device: object | None = None
    content: object = field(default=None, compare=False)

    @property
    def role(self) -> Role:
        return INFO[self.kind].role

    @property
    def day(self) -> int:
        return self.time // DAY

    @property
    def date_only(self) -> bool:
        return self.time % DAY == 0


# ---------------------------------------------------------------- values as a person writes them


def moment(text: Any) -> int:
    """Return µs since 1970-01-01 of a Shanghai wall clock time (or a plain date)."""
    if isinstance(text, dt.datetime):
        value = text.replace(tzinfo=None)
    elif isinstance(text, dt.date):
        value = dt.datetime.combine(text, dt.time())
    else:
        value = dt.datetime.fromisoformat(str(text))
    return (value - EPOCH) // dt.timedelta(microseconds=1)


def day_of(text: Any) -> int:
    """Return days since 1970-01-01."""
    return moment(text) // DAY


def expiry_of(text: Any) -> tuple[int, bool]:
    """Return the last day of use and whether only a month was given."""
    found = re.fullmatch(r"(\d{4})-(\d{2})", str(text))
    if not found:
        return day_of(text), False
    year, month = int(found[1]), int(found[2])
    return day_of(dt.date(year, month, calendar.monthrange(year, month)[1])), True


def fen(price: Any) -> int:
    """Return a CNY price in fen, rounded half up."""
    return int(float(price) * 100 + 0.5)


def milli(degrees: Any) -> int | None:
    """Return thousandths of a number, None for nothing."""
    return None if degrees is None else round(float(degrees) * 1000)


def identifier(code: str) -> str | None:
    """Return the drug identifier inside a code: 7 digits of a national code, or the GTIN."""
    gtin = re.match(r"\(01\)([0-9]{14})", code)
    if gtin:
        return gtin[1]
    return code[:7] if re.fullmatch(r"[0-9]{20}", code) else None


def code_problem(code: str) -> int:
    """Return 4 for 20 digits that do not begin with 8, 2 for a wrong GTIN, 1 for no code at all."""
    if re.fullmatch(r"[0-9]{20}", code):
        return 0 if code[0] == "8" else 4
    gtin = re.match(r"\(01\)([0-9]{14})\(21\)", code)
    if gtin:
        total = sum(int(d) * (3 if i % 2 == 0 else 1) for i, d in enumerate(gtin[1]))
        return 0 if total % 10 == 0 else 2
    return 0 if re.fullmatch(r"[!-~]{8,64}", code) else 1


def plain_key(text: str) -> int:
    """Return a stand-in for the engine's 64-bit hash, good for tests that need no engine."""
    value = 14695981039346656037
    for byte in text.encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    return value


# ---------------------------------------------------------------- rows -> events


def event_of(row: Row, key: Callable[[str], int] = plain_key) -> Event:
    """Return the event that a canonical row says."""
    get = row.get
    kind = parse_kind(str(row["event_type"]))
    content = tuple(
        sorted((name, str(value)) for name, value in row.items() if name != "record_time")
    )
    event_id = get("event_id") or "content:" + "|".join(f"{n}={v}" for n, v in content)
    actor, code = str(row["actor_id"]), str(row["code"])
    giver = get("from_id") or (actor if kind in OUTGOING else None)
    receiver = get("to_id") or (actor if kind in INCOMING else None)
    if INFO[kind].role == Role.PERSON_SALE:
        receiver = None  # a person, whatever the row says
    expiry, month_only = expiry_of(row["expiry_date"]) if get("expiry_date") else (None, False)
    return Event(
        event_id=event_id,
        key=key(event_id),
        content_key=key(repr(content)),
        time=moment(row["event_time"]),
        record_time=moment(row["record_time"]) if get("record_time") else None,
        kind=kind,
        code=code,
        actor=actor,
        giver=giver,
        receiver=receiver,
        from_region=get("from_region"),
        to_region=get("to_region"),
        drug=get("drug_id") or identifier(code),
        code_drug=identifier(code),
        drug_declared=bool(get("drug_id")),
        batch_no=get("batch_no"),
        production=day_of(row["production_date"]) if get("production_date") else None,
        expiry=expiry,
        expiry_month_only=month_only,
        quantity=1 if get("quantity") is None else int(row["quantity"]),
        quantity_stated=get("quantity") is not None,
        price=None if get("unit_price") is None else fen(row["unit_price"]),
        bill=(actor, row["bill_code"]) if get("bill_code") else None,
        order=get("order_code"),
        buyer=get("buyer_id"),
        platform=get("platform_id"),
        shop=get("shop_id"),
        online=bool(get("platform_id") or get("shop_id")),
        split=bool(get("split_sale")),
        gift=bool(get("gift")),
        prescription=bool(get("rx_no")),
        voids=key(row["voids_event_id"]) if get("voids_event_id") else None,
        code_problem=code_problem(code),
        parent=get("parent_code"),
        pack_level=get("pack_level"),
        device=get("device_id"),
        operator=get("operator_id"),
        pharmacist=get("pharmacist_id"),
        doctor=get("doctor_id"),
        rx=get("rx_no"),
        receivable=get("receivable"),
        temperature=milli(get("temperature")),
        source_bill=(
            (row["from_id"], row["from_bill_code"])
            if get("from_id") and get("from_bill_code")
            else None
        ),
        invoice=get("invoice_no"),
        contact=get("contact_id"),
        address=get("address_id"),
        buyer_device=get("buyer_device_id"),
        content=content,
    )


def events_of(rows: Iterable[Row], key: Callable[[str], int] = plain_key) -> list[Event]:
    """Return the events of canonical rows, in the order of the rows."""
    return [event_of(row, key) for row in rows]


# ---------------------------------------------------------------- rows -> Arrow


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table with canonical column names and types."""
    import pyarrow as pa

    def time(value: Any) -> dt.datetime | None:
        return None if not value else EPOCH + dt.timedelta(microseconds=moment(value))

    types: dict[str, Any] = {
        "event_time": pa.timestamp("us"),
        "record_time": pa.timestamp("us"),
        "production_date": pa.date32(),
        "quantity": pa.int32(),
        "receivable": pa.int32(),
        "pack_level": pa.int8(),
        "unit_price": pa.float64(),
        "split_sale": pa.bool_(),
        "gift": pa.bool_(),
        "temperature": pa.float32(),
    }
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name in ("event_time", "record_time"):
            values = [time(value) for value in values]
        elif name == "production_date":
            values = [time(v).date() if v else None for v in values]  # type: ignore[union-attr]
        elif name == "unit_price":
            values = [None if value is None else float(value) for value in values]
        elif name not in types:
            values = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values, types.get(name, pa.string()))
    return pa.table(columns)


# ---------------------------------------------------------------- EventBatch -> events


def decode(batch: EventBatch, vocabulary: Vocabulary) -> list[Event]:
    """Return the rows of a batch as events, ids turned back into text."""
    from trace_engine.events import batch as columns
    from trace_engine.registry.regions import load_regions

    regions = load_regions()

    def text(interner: Any, value: Any) -> str | None:
        return interner.text(int(value)) or None

    def region(value: Any) -> str | None:
        return None if value < 0 else regions.code(int(value))

    def number(value: Any, missing: int) -> int | None:
        return None if int(value) == missing else int(value)

    def optional(name: str, i: int) -> int:
        column = batch.optional.get(name)
        return int(columns.OPTIONAL_COLUMNS[name].missing if column is None else column[i])

    def stated(name: str, i: int) -> int | None:
        return number(optional(name, i), int(columns.OPTIONAL_COLUMNS[name].missing))

    def parent(i: int) -> str | None:
        key = stated("parent", i)
        return None if key is None else vocabulary.code_text(key)

    ids = batch.strings.column("event_id").to_pylist()
    events = []
    for i in range(len(batch)):
        flags = int(batch.flags[i])
        events.append(
            Event(
                event_id=ids[i],
                key=int(batch.event_key[i]),
                content_key=int(batch.content_key[i]),
                time=int(batch.time[i]),
                record_time=number(batch.record_time[i], columns.MISSING_TIME),
                kind=EventKind(int(batch.kind[i])),
                code=vocabulary.code_text(int(batch.code[i])),
                actor=vocabulary.parties.text(int(batch.actor[i])),
                giver=text(vocabulary.parties, batch.source[i]),
                receiver=text(vocabulary.parties, batch.target[i]),
                from_region=region(batch.source_region[i]),
                to_region=region(batch.target_region[i]),
                drug=text(vocabulary.drugs, batch.drug[i]),
                code_drug=text(vocabulary.drugs, batch.code_drug[i]),
                drug_declared=bool(flags & columns.DRUG_DECLARED),
                batch_no=text(vocabulary.batches, batch.batch_no[i]),
                production=number(batch.production[i], columns.MISSING_DAY),
                expiry=number(batch.expiry[i], columns.MISSING_DAY),
                expiry_month_only=bool(flags & columns.EXPIRY_MONTH_ONLY),
                quantity=int(batch.quantity[i]),
                quantity_stated=bool(flags & columns.QUANTITY_STATED),
                price=number(batch.price[i], columns.MISSING),
                bill=number(batch.bill[i], 0),
                order=number(batch.order[i], 0),
                buyer=number(batch.buyer[i], 0),
                platform=text(vocabulary.platforms, batch.platform[i]),
                shop=text(vocabulary.shops, batch.shop[i]),
                online=bool(flags & columns.ONLINE),
                split=bool(flags & columns.SPLIT_SALE),
                gift=bool(flags & columns.GIFT),
                prescription=bool(flags & columns.PRESCRIPTION),
                voids=number(batch.voids[i], 0),
                code_problem=int(batch.code_problem[i]),
                parent=parent(i),
                pack_level=stated("pack_level", i),
                device=text(vocabulary.devices, optional("device", i)),
                operator=text(vocabulary.operators, optional("operator", i)),
                pharmacist=text(vocabulary.pharmacists, optional("pharmacist", i)),
                doctor=text(vocabulary.doctors, optional("doctor", i)),
                rx=stated("prescription", i),
                receivable=stated("receivable", i),
                temperature=stated("temperature", i),
                source_bill=stated("source_bill", i),
                invoice=stated("invoice", i),
                contact=stated("contact", i),
                address=stated("address", i),
                buyer_device=stated("buyer_device", i),
            )
        )
    return events


# ---------------------------------------------------------------- duplicates


def deduplicate(
    events: Iterable[Event], memory_days: int = 31
) -> tuple[list[Event], list[Event], list[Event]]:
    """Return accepted events, duplicates, and rows whose id was taken by other content.

    In order of (day, time, content key); of equal rows the one recorded first is the event.
    """
    late = 2**63
    ordered = sorted(
        events,
        key=lambda e: (e.time, e.content_key, late if e.record_time is None else e.record_time),
    )
    kept: dict[int, Event] = {}
    accepted: list[Event] = []
    duplicates: list[Event] = []
    conflicts: list[Event] = []
    for event in ordered:
        before = kept.get(event.key)
        if before is None or event.day - before.day > memory_days:
            kept[event.key] = event
            accepted.append(event)
        elif before.content_key == event.content_key:
            duplicates.append(event)
        else:
            conflicts.append(event)
    return accepted, duplicates, conflicts

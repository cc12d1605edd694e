"""Events back into an EventBatch, so that a kernel can be driven without any reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tests.reference.events import Event, plain_key
from trace_engine.events import batch as columns
from trace_engine.events.batch import COLUMN_TYPES, OPTIONAL_COLUMNS, EventBatch, Vocabulary
from trace_engine.registry.regions import load_regions


def same_key(value: object | None, key: Callable[[str], int] = plain_key) -> int:
    """Return a stand-in hash: 0 for nothing, the number itself, or the key of its text."""
    if value is None:
        return 0
    return value if isinstance(value, int) else key(repr(value))


def batch_of(events: Sequence[Event], vocabulary: Vocabulary) -> EventBatch:
    """Return ``events`` as a batch in the order given; new strings enter ``vocabulary``."""
    regions = load_regions()
    v = vocabulary

    def day(value: int | None) -> int:
        return columns.MISSING_DAY if value is None else value

    def identity(interner: Any, text: str | None) -> int:
        return -1 if text is None else interner.id(text)

    def code_key(text: str) -> int:
        known = v.code_key(text)
        return columns.NATIONAL_LIMIT + v.codes.id(text) if known is None else known

    def flags(e: Event) -> int:
        return (
            columns.SPLIT_SALE * e.split
            | columns.GIFT * e.gift
            | columns.ONLINE * e.online
            | columns.DATE_ONLY * e.date_only
            | columns.PRESCRIPTION * e.prescription
            | columns.EXPIRY_MONTH_ONLY * e.expiry_month_only
            | columns.DRUG_DECLARED * e.drug_declared
        )

    makers: dict[str, Callable[[Event], int]] = {
        "time": lambda e: e.time,
        "record_time": lambda e: columns.MISSING_TIME if e.record_time is None else e.record_time,
        "kind": lambda e: int(e.kind),
        "flags": flags,
        "code_problem": lambda e: e.code_problem,
        "code": lambda e: code_key(e.code),
        "actor": lambda e: identity(v.parties, e.actor),
        "source": lambda e: identity(v.parties, e.giver),
        "target": lambda e: identity(v.parties, e.receiver),
        "source_region": lambda e: regions.index(e.from_region or ""),
        "target_region": lambda e: regions.index(e.to_region or ""),
        "drug": lambda e: identity(v.drugs, e.drug),
        "code_drug": lambda e: identity(v.drugs, e.code_drug),
        "batch_no": lambda e: identity(v.batches, e.batch_no),
        "production": lambda e: day(e.production),
        "expiry": lambda e: day(e.expiry),
        "quantity": lambda e: e.quantity,
        "price": lambda e: -1 if e.price is None else e.price,
        "bill": lambda e: same_key(e.bill),
        "order": lambda e: same_key(e.order),
        "buyer": lambda e: same_key(e.buyer),
        "platform": lambda e: identity(v.platforms, e.platform),
        "shop": lambda e: identity(v.shops, e.shop),
        "voids": lambda e: e.voids or 0,
        "event_key": lambda e: e.key,
        "content_key": lambda e: e.content_key,
    }
    arrays = {
        name: np.array([makers[name](e) for e in events], dtype)
        for name, dtype in COLUMN_TYPES.items()
    }
    strings = pa.table(
        {
            "event_id": pa.array([e.event_id for e in events], pa.string()),
            "bill_code": pa.array([None if e.bill is None else str(e.bill) for e in events]),
            "order_code": pa.array([None if e.order is None else str(e.order) for e in events]),
            "buyer_id": pa.array([None if e.buyer is None else str(e.buyer) for e in events]),
        },
        schema=pa.schema([(name, pa.string()) for name in columns.STRING_COLUMNS]),
    )
    optional_makers: dict[str, Callable[[Event], int]] = {
        "parent": lambda e: int(columns.NO_CODE) if e.parent is None else code_key(e.parent),
        "pack_level": lambda e: -1 if e.pack_level is None else e.pack_level,
        "device": lambda e: identity(v.devices, e.device),
        "operator": lambda e: identity(v.operators, e.operator),
        "pharmacist": lambda e: identity(v.pharmacists, e.pharmacist),
        "doctor": lambda e: identity(v.doctors, e.doctor),
        "prescription": lambda e: same_key(e.rx),
        "receivable": lambda e: -1 if e.receivable is None else e.receivable,
        "temperature": lambda e: columns.MISSING_DAY if e.temperature is None else e.temperature,
        "source_bill": lambda e: same_key(e.source_bill),
        "invoice": lambda e: same_key(e.invoice),
        "contact": lambda e: same_key(e.contact),
        "address": lambda e: same_key(e.address),
        "buyer_device": lambda e: same_key(e.buyer_device),
    }
    optional = {}
    for name, (dtype, missing) in OPTIONAL_COLUMNS.items():
        values = np.array([optional_makers[name](e) for e in events], dtype)
        if (values != missing).any():
            optional[name] = values
    return EventBatch(**arrays, strings=strings, optional=optional)

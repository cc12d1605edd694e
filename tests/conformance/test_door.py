"""The door reads rows as the plain implementation does: same parties, places, dates and flags."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given

from tests.conformance.casefile import all_cases
from tests.conformance.strategies import Case, cases
from tests.reference.events import Event, Row, decode, event_of, table_of
from trace_engine.events.batch import Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.raw import RawBatch

# Hashes are compared for presence only; ids given to rows without one are the engine's own.
HASHED = {
    "bill", "order", "buyer", "voids", "rx", "source_bill", "invoice", "contact", "address",
    "buyer_device",
}  # fmt: skip
OWN = {"event_id", "key", "content_key", "content"}


def check(rows: tuple[Row, ...]) -> None:
    vocabulary = Vocabulary()
    raw = RawBatch(table_of(rows).combine_chunks().to_batches()[0], "rows", 1)
    encoded = Encoder(vocabulary).encode(raw)
    assert encoded.rejects.num_rows == 0
    for row, got in zip(rows, decode(encoded.batch, vocabulary), strict=True):
        same(event_of(row), got, row)


def same(want: Event, got: Event, row: Row) -> None:
    for field in fields(Event):
        mine, theirs = getattr(want, field.name), getattr(got, field.name)
        if field.name in HASHED:
            assert (mine is None) == (theirs is None), (field.name, row)
        elif field.name not in OWN:
            assert mine == theirs, (field.name, row)
    if row.get("event_id"):
        assert got.event_id == row["event_id"]
    else:
        assert got.event_id.startswith("content:")


@given(cases(codes=3, events=8))
def test_random_rows(case: Case) -> None:
    if case.rows:
        check(case.rows)


def test_rows_of_the_cases() -> None:
    for case in all_cases():
        check(case.rows)

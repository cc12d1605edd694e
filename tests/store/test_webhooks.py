from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from tests.store.conftest import NOW, Clock
from trace_engine.store.database import Database
from trace_engine.store.moments import from_micros
from trace_engine.store.webhooks import (
    DELIVERED,
    GIVEN_UP,
    WAITING,
    Subscription,
    WebhookStore,
)

TIME: datetime = from_micros(NOW)
SECOND = timedelta(seconds=1)


def subscription(name: str, **changes: object) -> Subscription:
    stated = {
        "webhook_id": name, "url": "https://example.org/钩", "secret": "s3cret",
        "filters": {"detector": ["d1"], "severity_min": 0.5}, "created_at": TIME,
    }  # fmt: skip
    return Subscription(**(stated | changes))  # type: ignore[arg-type]


@pytest.fixture
def store(database: Database) -> WebhookStore:
    return WebhookStore(database)


def test_subscriptions(store: WebhookStore) -> None:
    first = subscription("w1", created_by="k1", queued_through=4)
    store.add(first)
    store.add(subscription("w2", created_at=TIME + SECOND))
    with pytest.raises(IntegrityError):
        store.add(first)
    assert store.get("w1") == first
    assert "s3cret" not in repr(first)
    assert store.get("w9") is None
    assert [found.webhook_id for found in store.all()] == ["w1", "w2"]
    assert store.set_active("w1", False, "gone: 410")
    assert not store.set_active("w9", False)
    assert [found.webhook_id for found in store.all(active=True)] == ["w2"]
    off = store.get("w1")
    assert off is not None
    assert (off.active, off.disabled_reason) == (False, "gone: 410")
    assert store.remove("w1")
    assert not store.remove("w1")


def test_the_outbox_takes_each_event_once(store: WebhookStore) -> None:
    store.add(subscription("w1"))
    assert store.enqueue("w1", [("F1.0", "{1}"), ("F2.0", "{2}")], 7) == [1, 2]
    assert store.enqueue("w1", [("F2.0", "{2}"), ("F3.0", "{3}")], 9) == [3]
    assert store.enqueue("w1", [], 8) == []
    found = store.get("w1")
    assert found is not None
    assert found.queued_through == 9  # never backwards
    assert store.enqueue("w9", [("F1.0", "{}")], 9) == []
    store.add(subscription("w2"))
    assert store.enqueue("w2", [("F1.0", "{1}")], 9) == [4]
    assert [(d.webhook_id, d.payload) for d in store.due(TIME, 9)] == [
        ("w1", "{1}"), ("w1", "{2}"), ("w1", "{3}"), ("w2", "{1}"),
    ]  # fmt: skip


def test_tries(store: WebhookStore, clock: Clock) -> None:
    store.add(subscription("w1"))
    assert store.next_due() is None
    store.enqueue("w1", [("a", "1"), ("b", "2"), ("c", "3")], 1)
    assert store.next_due() == TIME
    assert store.due(TIME - SECOND, 9) == []
    store.delivered(1, TIME)
    store.failed(2, "x" * 900, TIME + SECOND)
    store.failed(2, "refused", TIME + 4 * SECOND)
    store.give_up(3, "410 Gone", TIME)
    assert store.counts() == {WAITING: 1, DELIVERED: 1, GIVEN_UP: 1}
    assert store.due(TIME, 9) == []
    assert store.next_due() == TIME + 4 * SECOND
    (second,) = store.due(TIME + 4 * SECOND, 9)
    assert (second.number, second.attempts, second.last_error) == (2, 2, "refused")
    assert second.created_at == TIME
    rows, after = store.deliveries("w1", None, 2)
    assert [(d.number, d.state, d.attempts) for d in rows] == [(3, GIVEN_UP, 1), (2, WAITING, 2)]
    (first,) = store.deliveries("w1", after, 2)[0]
    assert (first.state, first.done_at, first.last_error) == (DELIVERED, TIME, None)
    assert [d.number for d in store.deliveries("w1", None, 9, state=GIVEN_UP)[0]] == [3]
    assert not store.try_again(1, TIME)
    assert store.try_again(3, TIME)
    assert [(d.number, d.attempts) for d in store.due(TIME, 9)] == [(3, 0)]


def test_nothing_is_due_for_who_is_switched_off(store: WebhookStore) -> None:
    store.add(subscription("w1"))
    store.enqueue("w1", [("a", "1")], 1)
    store.set_active("w1", False)
    assert store.due(TIME, 9) == []
    assert store.next_due() is None
    store.set_active("w1", True)
    assert len(store.due(TIME, 9)) == 1
    store.remove("w1")
    assert store.counts()[WAITING] == 0

"""Webhooks: who wants to hear of findings, and what is still to be sent to them.

The outbox holds what is sent word for word, so that each try sends and signs the same bytes. What
was queued for a subscription, and up to which number of finding, changes in one transaction: after
a crash nothing is left out and nothing queued twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select, update

from trace_engine.store.database import Database, draw_numbers, insert_many, lock_counter
from trace_engine.store.moments import from_micros, to_micros
from trace_engine.store.tables import DELIVERY, WEBHOOK

COUNTER_NAME = "delivery"
WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given_up"
_KEYS_AT_ONCE = 10_000
_MOST_ERROR = 500  # characters kept of what went wrong


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who wants to hear of findings. ``filters`` is a mapping that JSON can hold.

    Findings up to number ``queued_through`` were looked at for it.
    """

    webhook_id: str
    url: str
    secret: str = field(repr=False)
    filters: Mapping[str, Any]
    created_at: datetime
    created_by: str = ""
    active: bool = True
    queued_through: int = 0
    disabled_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something to be sent, or that was. ``event_key`` is unique within its subscription."""

    number: int
    webhook_id: str
    event_key: str
    payload: str = field(repr=False)
    state: str
    attempts: int
    next_attempt: datetime
    last_error: str | None
    created_at: datetime
    done_at: datetime | None


class WebhookStore:
    """Subscriptions and outbox of a database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- subscriptions

    def add(self, subscription: Subscription) -> None:
        """Store a new subscription. Raises ``sqlalchemy.exc.IntegrityError`` if its id is taken."""
        row = {
            "webhook_id": subscription.webhook_id,
            "url": subscription.url,
            "secret": subscription.secret,
            "filters": msgspec.json.encode(dict(subscription.filters)).decode(),
            "active": subscription.active,
            "created_at": to_micros(subscription.created_at),
            "created_by": subscription.created_by,
            "queued_through": subscription.queued_through,
            "disabled_reason": subscription.disabled_reason,
        }
        with self._database.write() as connection:
            connection.execute(insert(WEBHOOK), row)

    def get(self, webhook_id: str) -> Subscription | None:
        """Return one subscription, None if there is none of this id."""
        with self._database.read() as connection:
            row = connection.execute(
                select(WEBHOOK).where(WEBHOOK.c.webhook_id == webhook_id)
            ).first()
        return None if row is None else _subscription(row)

    def all(self, *, active: bool = False) -> list[Subscription]:
        """Return all subscriptions, oldest first; with ``active`` only those that are."""
        query = select(WEBHOOK).order_by(WEBHOOK.c.created_at, WEBHOOK.c.webhook_id)
        if active:
            query = query.where(WEBHOOK.c.active)
        with self._database.read() as connection:
            return [_subscription(row) for row in connection.execute(query)]

    def set_active(self, webhook_id: str, active: bool, reason: str | None = None) -> bool:
        """Switch a subscription on or off, saying why; return False if there is none."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(WEBHOOK)
                .where(WEBHOOK.c.webhook_id == webhook_id)
                .values(active=active, disabled_reason=reason)
            )
        return changed.rowcount > 0

    def remove(self, webhook_id: str) -> bool:
        """Delete a subscription with all its deliveries; return False if there is none."""
        with self._database.write() as connection:
            gone = connection.execute(delete(WEBHOOK).where(WEBHOOK.c.webhook_id == webhook_id))
        return gone.rowcount > 0

    # -- outbox

    def enqueue(
        self, webhook_id: str, events: Sequence[tuple[str, str]], queued_through: int
    ) -> list[int]:
        """Queue ``events`` (key, payload) and note that findings up to a number were looked at.

        Keys that were queued for this subscription before are ignored. Returns the numbers of new
        deliveries; none if the subscription is gone.
        """
        payloads = dict(events)
        with self._database.write() as connection:
            lock_counter(connection, COUNTER_NAME)
            known_through = connection.execute(
                select(WEBHOOK.c.queued_through).where(WEBHOOK.c.webhook_id == webhook_id)
            ).scalar_one_or_none()
            if known_through is None:
                return []
            keys = list(payloads)
            for begin in range(0, len(keys), _KEYS_AT_ONCE):
                query = select(DELIVERY.c.event_key).where(
                    DELIVERY.c.webhook_id == webhook_id,
                    DELIVERY.c.event_key.in_(keys[begin : begin + _KEYS_AT_ONCE]),
                )
                for key in connection.execute(query).scalars().all():
                    del payloads[key]
            numbers = draw_numbers(connection, COUNTER_NAME, len(payloads))
            now = self._database.now()
            insert_many(
                connection,
                DELIVERY,
                [
                    (number, webhook_id, key, payload, WAITING, 0, now, None, now, None)
                    for number, (key, payload) in zip(numbers, payloads.items(), strict=True)
                ],
            )
            if queued_through > known_through:
                connection.execute(
                    update(WEBHOOK)
                    .where(WEBHOOK.c.webhook_id == webhook_id)
                    .values(queued_through=queued_through)
                )
        return list(numbers)

    def due(self, now: datetime, limit: int) -> list[Delivery]:
        """Return what is to be sent to active subscriptions now, the longest due first."""
        query = (
            select(DELIVERY)
            .join(WEBHOOK, WEBHOOK.c.webhook_id == DELIVERY.c.webhook_id)
            .where(
                DELIVERY.c.state == WAITING,
                DELIVERY.c.next_attempt <= to_micros(now),
                WEBHOOK.c.active,
            )
            .order_by(DELIVERY.c.next_attempt, DELIVERY.c.number)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def next_due(self) -> datetime | None:
        """Return when the next try of an active subscription is due; None if nothing waits."""
        query = (
            select(func.min(DELIVERY.c.next_attempt))
            .join(WEBHOOK, WEBHOOK.c.webhook_id == DELIVERY.c.webhook_id)
            .where(DELIVERY.c.state == WAITING, WEBHOOK.c.active)
        )
        with self._database.read() as connection:
            earliest: int | None = connection.execute(query).scalar_one()
        return from_micros(earliest)

    def delivered(self, number: int, at: datetime) -> None:
        """Note that a delivery arrived."""
        self._tried(number, {"state": DELIVERED, "done_at": to_micros(at), "last_error": None})

    def failed(self, number: int, error: str, next_attempt: datetime) -> None:
        """Note that a try failed, and when the next one is due."""
        self._tried(
            number, {"last_error": error[:_MOST_ERROR], "next_attempt": to_micros(next_attempt)}
        )

    def give_up(self, number: int, error: str, at: datetime) -> None:
        """Note that the last try failed."""
        self._tried(
            number,
            {"state": GIVEN_UP, "last_error": error[:_MOST_ERROR], "done_at": to_micros(at)},
        )

    def _tried(self, number: int, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(DELIVERY)
                .where(DELIVERY.c.number == number)
                .values(attempts=DELIVERY.c.attempts + 1, **values)
            )

    def try_again(self, number: int, at: datetime) -> bool:
        """Queue a delivery that was given up once more; return False if it was not."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(DELIVERY)
                .where(DELIVERY.c.number == number, DELIVERY.c.state == GIVEN_UP)
                .values(state=WAITING, attempts=0, next_attempt=to_micros(at), done_at=None)
            )
        return changed.rowcount > 0

    def deliveries(
        self, webhook_id: str, after: int | None, limit: int, *, state: str | None = None
    ) -> tuple[list[Delivery], int | None]:
        """Return up to ``limit`` deliveries, newest first, and the number to go on after."""
        query = select(DELIVERY).where(DELIVERY.c.webhook_id == webhook_id)
        if state is not None:
            query = query.where(DELIVERY.c.state == state)
        if after is not None:
            query = query.where(DELIVERY.c.number < after)
        query = query.order_by(DELIVERY.c.number.desc()).limit(limit + 1)
        with self._database.read() as connection:
            rows = [_delivery(row) for row in connection.execute(query)]
        return (rows, None) if len(rows) <= limit else (rows[:limit], rows[limit - 1].number)

    def counts(self) -> dict[str, int]:
        """Return how many deliveries are in which state, over all subscriptions."""
        query = select(DELIVERY.c.state, func.count()).group_by(DELIVERY.c.state)
        with self._database.read() as connection:
            found = {state: int(count) for state, count in connection.execute(query).all()}
        return {WAITING: 0, DELIVERED: 0, GIVEN_UP: 0} | found


def _subscription(row: Any) -> Subscription:
    return Subscription(
        webhook_id=row.webhook_id,
        url=row.url,
        secret=row.secret,
        filters=msgspec.json.decode(row.filters),
        created_at=from_micros(row.created_at),
        created_by=row.created_by,
        active=row.active,
        queued_through=row.queued_through,
        disabled_reason=row.disabled_reason,
    )


def _delivery(row: Any) -> Delivery:
    times = ("next_attempt", "created_at", "done_at")
    return Delivery(**{**row._mapping, **{name: from_micros(getattr(row, name)) for name in times}})

"""The outbox of webhooks, read in the order in which things must arrive."""

from __future__ import annotations

from sqlalchemy import func, select

from trace_engine.store.tables import DELIVERY
from trace_engine.store.webhooks import GIVEN_UP, WAITING, Delivery, WebhookStore, _delivery


class Outbox(WebhookStore):
    """Subscriptions and outbox, with what a sender asks that keeps the order. Thread-safe."""

    def head(self, webhook_id: str) -> Delivery | None:
        """Return the oldest delivery that waits for a subscription, due or not; None if none does.

        Nothing after it may be sent before it arrived or was given up.
        """
        query = (
            select(DELIVERY)
            .where(DELIVERY.c.webhook_id == webhook_id, DELIVERY.c.state == WAITING)
            .order_by(DELIVERY.c.number)
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _delivery(row)

    def open_counts(self, webhook_id: str) -> dict[str, int]:
        """Return how many deliveries of a subscription wait and how many were given up."""
        query = (
            select(DELIVERY.c.state, func.count())
            .where(DELIVERY.c.webhook_id == webhook_id, DELIVERY.c.state.in_((WAITING, GIVEN_UP)))
            .group_by(DELIVERY.c.state)
        )
        with self._database.read() as connection:
            found = {state: int(count) for state, count in connection.execute(query).all()}
        return {WAITING: 0, GIVEN_UP: 0} | found

"""Webhooks: findings sent to whoever subscribed, in order, until they arrive or are given up.

One thread looks what is due, a few send. For each subscription at most one request is under way:
the oldest delivery goes first, and what comes after it waits. What is sent lies word for word in
the outbox, so that every try has the same id and the same body; what arrived but could not be noted
is sent once more (at least once). Secrets are derived, not stored: without the service's own key
the database signs nothing.
"""

from __future__ import annotations

import base64
import email.utils
import hmac
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import trace_engine
from trace_engine.service.outbound import (
    Caller,
    Network,
    RefusedAddressError,
    UnreachableError,
    networks,
)
from trace_engine.service.routes._answers import json_bytes
from trace_engine.service.routes._shapes import finding_document, region_prefix
from trace_engine.service.settings import ServiceSettings
from trace_engine.service.streams import Announcer, Wanted
from trace_engine.signatures import (
    ID_HEADER,
    SECRET_PREFIX,
    SIGNATURE_HEADER,
    TIME_HEADER,
    sign,
)
from trace_engine.store.outbox import Outbox
from trace_engine.store.webhooks import WAITING, Delivery, Subscription

logger = logging.getLogger(__name__)

READ_ROWS = 100  # findings looked at for a subscription at a time; one may list 20 000 codes
LONGEST_LOOK = 5.0  # s between two looks at what is due, whatever happens
SHORTEST_LOOK = 0.02
IN_A_ROW = 100  # deliveries to one subscription before others get the thread ...
TURN_SECONDS = 30.0  # ... and the time after which no further one is begun
LONGEST_RETRY_AFTER = 6 * 3600.0
GONE = 410
_PURPOSE = b"trace-engine webhook secrets 1"


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """How deliveries are tried. Times in seconds."""

    allowed: tuple[Network, ...] = ()  # addresses that may be called although they are local
    seconds: float = 10.0  # one try, all of it
    give_up: float = 72 * 3600.0  # after a delivery was made; its last try is then
    first_pause: float = 5.0
    longest_pause: float = 3600.0
    senders: int = 4
    most: int = 50  # subscriptions
    findings: int = 50  # in one delivery
    most_bytes: int = 1 << 20  # of one delivery, if it holds more than one finding
    most_waiting: int = 1000  # deliveries of one subscription that lie in the outbox

    @classmethod
    def of(cls, settings: ServiceSettings) -> WebhookLimits:
        """Return the limits that the settings state."""
        return cls(
            allowed=networks(settings.webhook_allowed_networks),
            seconds=settings.webhook_seconds,
            give_up=settings.webhook_give_up_seconds,
            most=settings.most_webhooks,
        )

    def pause(self, attempts: int, chance: float) -> float:
        """Return seconds to the next try after ``attempts``; ``chance`` in [0, 1) spreads them."""
        full = min(self.longest_pause, self.first_pause * 2.0 ** min(attempts - 1, 40))
        return full * (0.5 + chance / 2)


class Secrets:
    """Derives the secret of a subscription from its salt and the key that only the service has."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._read = key

    @cached_property
    def _key(self) -> bytes:
        return hmac.digest(self._read(), _PURPOSE, "sha256")

    def of(self, webhook_id: str, salt: str) -> str:
        """Return ``whsec_`` and 32 bytes as base64."""
        derived = hmac.digest(self._key, f"{webhook_id}.{salt}".encode(), "sha256")
        return SECRET_PREFIX + base64.b64encode(derived).decode()


def secrets_of(settings: ServiceSettings) -> Secrets:
    """Return the secrets of a service, read when first needed."""
    from trace_engine.service.stores import hash_key

    return Secrets(lambda: hash_key(settings))


def wanted_of(filters: Mapping[str, Any]) -> Wanted:
    """Return what a subscription's filters let through."""
    detectors = filters.get("detector")
    return Wanted(
        detector=frozenset(detectors) if detectors else None,
        family=filters.get("family"),
        severity_min=filters.get("severity_min"),
        subject_id=filters.get("subject_id"),
        drug_id=filters.get("drug_id"),
        region=region_prefix(filters.get("region")),
        jurisdiction=filters.get("jurisdiction"),
    )


def delivery_id(delivery: Delivery) -> str:
    """Return the id of a delivery, the same on every try."""
    return f"{delivery.webhook_id}-{delivery.event_key}"


def events_of(
    webhook_id: str, rows: list[dict[str, Any]], limits: WebhookLimits
) -> list[tuple[str, str]]:
    """Return (key, body) of the deliveries that carry ``rows``, findings by number."""
    parts: list[list[tuple[int, bytes]]] = []
    size = 0
    for row in rows:
        text = json_bytes(finding_document(row))
        full = (
            not parts or len(parts[-1]) >= limits.findings or size + len(text) > limits.most_bytes
        )
        if full:
            parts.append([])
            size = 0
        parts[-1].append((row["number"], text))
        size += len(text)
    events = []
    for part in parts:
        key = f"{part[0][0]}-{part[-1][0]}"
        head = json_bytes({"type": "findings", "delivery_id": f"{webhook_id}-{key}"})
        body = head[:-1] + b',"findings":[' + b",".join(text for _, text in part) + b"]}"
        events.append((key, body.decode()))
    return events


class Deliverer:
    """Fills the outbox and sends what is in it. :meth:`start` it, and :meth:`close` it."""

    def __init__(
        self,
        host: Announcer,
        outbox: Outbox,
        secrets: Secrets,
        limits: WebhookLimits,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.outbox = outbox
        self.secrets = secrets
        self.limits = limits
        self._host = host
        self._clock = clock
        self._chance = chance
        self._stop = threading.Event()
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._callers: dict[str, Caller] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._thread: threading.Thread | None = None
        self._leave: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._threads = ThreadPoolExecutor(self.limits.senders, thread_name_prefix="webhook")
        self._leave = self._host.listen(lambda _: self.wake())
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at once what is to be done. Callable from any thread."""
        self._awake.set()

    def close(self, timeout: float = 10.0) -> None:
        """End; tries under way are cut off and made again by the next start."""
        self._stop.set()
        self._awake.set()
        if self._leave is not None:
            self._leave()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._lock:
            callers = list(self._callers.values())
        for caller in callers:
            caller.abort()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        for caller in callers:
            caller.close()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._awake.clear()
            pause = LONGEST_LOOK
            try:
                pause = self._look()
            except Exception:  # the database may be away for a while; it is asked again
                logger.exception("webhooks cannot be looked after")
            self._stop.wait(SHORTEST_LOOK)  # what comes in a burst is looked at together
            self._awake.wait(min(pause, LONGEST_LOOK))

    def _look(self) -> float:
        """Queue what is new, send what is due; return seconds until something is due."""
        pause = LONGEST_LOOK
        read: dict[int, list[dict[str, Any]]] = {}
        subscriptions = self.outbox.all(active=True)
        self._forget({one.webhook_id for one in subscriptions})
        for subscription in subscriptions:
            self._fill(subscription, read)
            with self._lock:
                if subscription.webhook_id in self._busy:
                    continue
            head = self.outbox.head(subscription.webhook_id)
            if head is None:
                continue
            wait = head.next_attempt.timestamp() - self._clock()
            if wait > 0:
                pause = min(pause, wait)
                continue
            with self._lock:
                self._busy.add(subscription.webhook_id)
            if self._threads is not None and not self._stop.is_set():
                self._threads.submit(self._send_all, subscription.webhook_id)
        return pause

    def _forget(self, active: set[str]) -> None:
        """Close connections to subscriptions that are gone."""
        with self._lock:
            gone = [one for one in self._callers if one not in active and one not in self._busy]
            callers = [self._callers.pop(one) for one in gone]
        for caller in callers:
            caller.close()

    def _fill(self, subscription: Subscription, read: dict[int, list[dict[str, Any]]]) -> None:
        """Put findings made since into the outbox, as far as there is room in it."""
        after = subscription.queued_through
        wanted = wanted_of(subscription.filters)
        while not self._stop.is_set():
            if after not in read:
                read.clear()
                read[after] = self._host.findings.after(after, READ_ROWS)
            rows = read[after]
            if not rows:
                return
            if self.outbox.open_counts(subscription.webhook_id)[WAITING] > self.limits.most_waiting:
                return
            chosen = [row for row in rows if wanted.takes(row)]
            events = events_of(subscription.webhook_id, chosen, self.limits)
            after = rows[-1]["number"]
            self.outbox.enqueue(subscription.webhook_id, events, after)

    def _send_all(self, webhook_id: str) -> None:
        """Send what is due to one subscription, in order, until something fails or others wait."""
        ends = time.monotonic() + TURN_SECONDS
        try:
            for _ in range(IN_A_ROW):
                subscription = self.outbox.get(webhook_id)
                delivery = self.outbox.head(webhook_id)
                if subscription is None or not subscription.active or delivery is None:
                    break
                if delivery.next_attempt.timestamp() > self._clock() or self._stop.is_set():
                    break
                self._try(subscription, delivery)
                if time.monotonic() >= ends:  # a slow receiver: next time again, after the others
                    break
        except Exception:  # noted by whom it concerns; the thread is needed for others
            logger.exception("a webhook cannot be served", extra={"webhook_id": webhook_id})
            self._stop.wait(1.0)
        finally:
            with self._lock:
                self._busy.discard(webhook_id)
            self._awake.set()

    def _caller(self, webhook_id: str) -> Caller:
        with self._lock:
            if webhook_id not in self._callers:
                self._callers[webhook_id] = Caller(self.limits.allowed)
            return self._callers[webhook_id]

    def _try(self, subscription: Subscription, delivery: Delivery) -> None:
        """Send one delivery once and note what became of it."""
        caller = self._caller(subscription.webhook_id)
        status, asked, error = 0, 0.0, ""
        try:
            headers, body = self.request(subscription, delivery)
            status, answered = caller.post(subscription.url, headers, body, self.limits.seconds)
            asked = retry_after(answered.get("retry-after"), self._clock())
            error = f"answered {status}"
        except (UnreachableError, RefusedAddressError) as problem:
            error = str(problem)
        now = self._now()
        if 200 <= status < 300:
            self.outbox.delivered(delivery.number, now)
            return
        if self._stop.is_set():
            return  # cut off by our own end: not the receiver's fault
        last = delivery.created_at + timedelta(seconds=self.limits.give_up)
        logger.warning(
            "a webhook was not taken",
            extra={
                "webhook_id": subscription.webhook_id,
                "delivery_id": delivery_id(delivery),
                "attempts": delivery.attempts + 1,
                "reason": error,
            },
        )
        if now >= last and status != GONE:
            self.outbox.give_up(delivery.number, error, now)
            return
        pause = max(self.limits.pause(delivery.attempts + 1, self._chance()), asked)
        self.outbox.failed(
            delivery.number, error, min(now + timedelta(seconds=pause), max(last, now))
        )
        if status == GONE:
            self.outbox.set_active(subscription.webhook_id, False, "the receiver answered 410 Gone")

    def request(
        self, subscription: Subscription, delivery: Delivery
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body of a try made now."""
        body = delivery.payload.encode()
        stamp = int(self._clock())
        secret = self.secrets.of(subscription.webhook_id, subscription.secret)
        one = delivery_id(delivery)
        return {
            "Content-Type": "application/json",
            "User-Agent": f"trace-engine/{trace_engine.__version__}",
            ID_HEADER: one,
            TIME_HEADER: str(stamp),
            SIGNATURE_HEADER: sign(secret, one, stamp, body),
        }, body


def retry_after(text: str | None, now: float) -> float:
    """Return the seconds that a ``Retry-After`` header asks for, 0 for none or nonsense."""
    if not text:
        return 0.0
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(when - now, 0.0), LONGEST_RETRY_AFTER)

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.service.routes.receiver import Received, Receiver
from tests.service.routes.worlds import World, finding, open_world
from trace_engine.service import webhooks
from trace_engine.service.outbound import networks
from trace_engine.service.webhooks import (
    Deliverer,
    Secrets,
    WebhookLimits,
    delivery_id,
    events_of,
    retry_after,
)
from trace_engine.signatures import verify
from trace_engine.store.outbox import Outbox
from trace_engine.store.webhooks import DELIVERED, GIVEN_UP, WAITING, Delivery, Subscription

KEY = b"k" * 32
SALT = "0123456789abcdef"
HERE = networks(["127.0.0.0/8"])
QUICK = {"allowed": HERE, "first_pause": 0.02, "longest_pause": 0.05, "seconds": 5.0, "findings": 1}


class NotingOutbox(Outbox):
    """Tells when something became of a delivery."""

    changed = threading.Condition()

    def _tried(self, number: int, values: dict[str, Any]) -> None:
        super()._tried(number, values)
        with self.changed:
            self.changed.notify_all()

    def wait(self, state: str, count: int, webhook_id: str = "wh-1") -> list[Delivery]:
        """Return the deliveries in a state, oldest first, once there are ``count``."""

        def found() -> list[Delivery]:
            return self.deliveries(webhook_id, None, 1000, state=state)[0][::-1]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, 15), found()
            return found()


class Desk:
    """A world, its outbox and a receiver that subscribed."""

    def __init__(self, world: World, receiver: Receiver) -> None:
        self.world = world
        self.receiver = receiver
        self.outbox = NotingOutbox(world.database)
        self.secrets = Secrets(lambda: KEY)
        self.now: float | None = None

    def subscribe(self, webhook_id: str = "wh-1", url: str = "", **filters: Any) -> None:
        self.outbox.add(
            Subscription(
                webhook_id, url or self.receiver.url, SALT, filters, datetime.now(UTC), "desk"
            )
        )

    def clock(self) -> float:
        return datetime.now(UTC).timestamp() if self.now is None else self.now

    @contextmanager
    def delivering(self, **limits: Any) -> Iterator[Deliverer]:
        deliverer = Deliverer(
            self.world,  # type: ignore[arg-type]
            self.outbox,
            self.secrets,
            WebhookLimits(**{**QUICK, **limits}),
            clock=self.clock,
        )
        deliverer.start()
        try:
            yield deliverer
        finally:
            deliverer.close()
        assert not self.world.callbacks

    def checked(self, request: Received) -> str:
        """Return the id of a delivery whose signature holds."""
        secret = self.secrets.of("wh-1", SALT)
        return verify(secret, request.headers, request.body, now=self.clock())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    world = open_world(tmp_path)
    with Receiver().running() as receiver:
        yield Desk(world, receiver)
    world.database.close()


def ids(requests: list[Received]) -> list[str]:
    return [one for request in requests for one in request.findings]


def test_findings_arrive_signed_and_in_order(desk: Desk) -> None:
    desk.subscribe()
    desk.world.store(finding(0))
    with desk.delivering():
        desk.world.store(*(finding(i) for i in range(1, 6)))
        requests = desk.receiver.wait(6)
        desk.outbox.wait(DELIVERED, 6)
    assert ids(requests) == [f"f{i:06d}" for i in range(6)]
    numbers = [desk.checked(request) for request in requests]
    assert numbers == [f"wh-1-{i}-{i}" for i in range(1, 7)]
    assert requests[0].headers["Content-Type"] == "application/json"
    stored = desk.outbox.deliveries("wh-1", None, 10)[0]
    assert [delivery_id(one) for one in stored[::-1]] == numbers


def test_a_failing_receiver_gets_the_same_again_and_nothing_before_it(desk: Desk) -> None:
    desk.subscribe()
    desk.receiver.answers.extend([(500, {}), "cut", (404, {}), (302, {"Location": "/other"})])
    with desk.delivering():
        desk.world.store(finding(1), finding(2))
        requests = desk.receiver.wait(6)
        done = desk.outbox.wait(DELIVERED, 2)
    assert ids(requests) == ["f000001"] * 5 + ["f000002"]
    assert {request.path for request in requests} == {"/hook"}
    assert {desk.checked(request) for request in requests[:5]} == {"wh-1-1-1"}
    assert {request.body for request in requests[:5]} == {requests[0].body}
    assert [one.attempts for one in done] == [5, 1]
    assert [one.last_error for one in done] == [None, None]


def test_a_receiver_that_hangs_and_one_that_works_do_not_wait_for_each_other(desk: Desk) -> None:
    other = Receiver()
    with other.running():
        desk.subscribe("wh-1")
        desk.subscribe("wh-2", other.url)
        desk.receiver.answers.extend(["hang", "drip"])
        with desk.delivering(seconds=0.4):
            desk.world.store(finding(1))
            assert ids(other.wait(1)) == ["f000001"]
            assert len(desk.receiver.requests) <= 1
            assert ids(desk.receiver.wait(3)) == ["f000001"] * 3
            (done,) = desk.outbox.wait(DELIVERED, 1)
            assert done.attempts == 3


def test_a_receiver_that_takes_long_gives_its_thread_to_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TURN_SECONDS", 0.0)  # every answer takes longer than that
    other = Receiver()
    with other.running():
        desk.subscribe("wh-1")
        desk.subscribe("wh-2", other.url)
        desk.world.store(*(finding(i) for i in range(30)))
        with desk.delivering(senders=1):
            other.wait(1)
            assert len(desk.receiver.requests) < 10
            requests = desk.receiver.wait(30)
            other.wait(30)
        assert ids(requests) == [f"f{i:06d}" for i in range(30)]


def test_a_receiver_that_was_away_gets_all_when_it_is_back(desk: Desk) -> None:
    back = Receiver()
    with back.running():
        url = back.url
    desk.subscribe(url=url)
    with desk.delivering():
        desk.world.store(*(finding(i) for i in range(5)))
        with desk.outbox.changed:
            tried = desk.outbox.changed.wait_for(
                lambda: (head := desk.outbox.head("wh-1")) is not None and head.attempts >= 2, 15
            )
        assert tried
        head = desk.outbox.head("wh-1")
        assert head is not None
        assert "ConnectError" in str(head.last_error)
        with back.running():
            assert ids(back.wait(5)) == [f"f{i:06d}" for i in range(5)]
            desk.outbox.wait(DELIVERED, 5)


def test_what_was_not_noted_is_sent_again_after_a_restart(desk: Desk) -> None:
    class Broken(NotingOutbox):
        def delivered(self, number: int, at: datetime) -> None:
            with self.changed:
                self.changed.notify_all()
            raise OSError("the disk is full")

    whole = desk.outbox
    desk.subscribe()
    desk.outbox = Broken(desk.world.database)
    with desk.delivering():
        desk.world.store(finding(1), finding(2))
        desk.receiver.wait(1)
    assert set(ids(desk.receiver.requests)) == {"f000001"}
    sent = len(desk.receiver.requests)
    desk.outbox = whole
    desk.world.store(finding(3))  # while nobody delivers
    with desk.delivering():
        requests = desk.receiver.wait(sent + 3)
        whole.wait(DELIVERED, 3)
    assert ids(requests[sent:]) == ["f000001", "f000002", "f000003"]
    assert len({desk.checked(request) for request in requests}) == 3


def test_retry_after_is_kept_to_and_pauses_grow(desk: Desk) -> None:
    desk.subscribe()
    desk.now = 1_800_000_000.0
    desk.receiver.answers.extend([(429, {"Retry-After": "120"}), (503, {})])
    with desk.delivering(first_pause=5.0, longest_pause=3600.0):
        desk.world.store(finding(1))
        desk.outbox._database.now = lambda: int(desk.clock() * 1e6)
        desk.receiver.wait(1)
        with desk.outbox.changed:
            assert desk.outbox.changed.wait_for(lambda: _head(desk).attempts == 1, 15)
        assert _head(desk).next_attempt.timestamp() == desk.now + 120
    desk.now += 121
    with desk.delivering(first_pause=5.0, longest_pause=3600.0):
        with desk.outbox.changed:
            assert desk.outbox.changed.wait_for(lambda: _head(desk).attempts == 2, 15)
        pause = _head(desk).next_attempt.timestamp() - desk.now
        assert 5.0 <= pause <= 10.0
    assert len(desk.receiver.requests) == 2


def _head(desk: Desk) -> Delivery:
    head = desk.outbox.head("wh-1")
    assert head is not None
    return head


def test_after_the_stated_time_a_delivery_is_given_up_and_others_go_on(desk: Desk) -> None:
    desk.subscribe()
    desk.receiver.answers.extend([(500, {})] * 2)
    desk.world.store(finding(1))
    with desk.delivering(), desk.outbox.changed:
        assert desk.outbox.changed.wait_for(lambda: _waiting(desk) == 0, 15)
    desk.receiver.answers.clear()
    desk.receiver.answers.extend([(500, {})])
    desk.world.store(finding(2), finding(3))
    with desk.delivering(give_up=0.0):
        (dead,) = desk.outbox.wait(GIVEN_UP, 1)
        done = desk.outbox.wait(DELIVERED, 2)
    assert (dead.event_key, dead.last_error, dead.attempts) == ("2-2", "answered 500", 1)
    assert [one.event_key for one in done] == ["1-1", "3-3"]
    assert desk.outbox.try_again(dead.number, datetime.now(UTC))
    with desk.delivering():
        desk.outbox.wait(DELIVERED, 3)
    assert ids(desk.receiver.requests)[-1] == "f000002"


def _waiting(desk: Desk) -> int:
    found = desk.outbox.deliveries("wh-1", None, 10)[0]
    return -1 if not found else sum(one.state == WAITING for one in found)


def test_gone_ends_a_subscription_until_it_is_resumed(desk: Desk) -> None:
    desk.subscribe()
    desk.receiver.answers.append((410, {}))
    with desk.delivering() as deliverer:
        desk.world.store(finding(1))
        desk.receiver.wait(1)
        with desk.outbox.changed:
            assert desk.outbox.changed.wait_for(lambda: _head(desk).attempts == 1, 15)
    subscription = desk.outbox.get("wh-1")
    assert subscription is not None
    assert (subscription.active, subscription.disabled_reason) == (
        False, "the receiver answered 410 Gone",
    )  # fmt: skip
    desk.world.store(finding(2))
    with desk.delivering() as deliverer:
        desk.outbox.set_active("wh-1", True)
        deliverer.wake()
        assert ids(desk.receiver.wait(3)) == ["f000001", "f000001", "f000002"]


def test_only_what_was_asked_for_is_sent(desk: Desk) -> None:
    desk.subscribe(severity_min=0.8, region="370000", detector=["reverse_flow"])
    with desk.delivering():
        desk.world.store(
            finding(1, severity=0.9),
            finding(2, severity=0.9, detector="reverse_flow", region="440103"),
            finding(3, severity=0.9, detector="reverse_flow"),
        )
        assert ids(desk.receiver.wait(1)) == ["f000003"]
        desk.outbox.wait(DELIVERED, 1)
    subscription = desk.outbox.get("wh-1")
    assert subscription is not None
    assert subscription.queued_through == 3


def test_several_findings_go_together_within_limits() -> None:
    rows = [
        finding(i, evidence=f'{{"x":"{"y" * size}"}}') | {"number": i, "late": False, "revision": 0}
        for i, size in enumerate([10, 10, 10, 5000, 10], 1)
    ]
    limits = WebhookLimits(findings=2, most_bytes=4000)
    assert [key for key, _ in events_of("wh-1", rows, limits)] == ["1-2", "3-3", "4-4", "5-5"]
    one = events_of("wh-1", rows, WebhookLimits())
    assert [key for key, _ in one] == ["1-5"]
    assert events_of("wh-1", [], limits) == []


def test_an_outbox_that_is_full_is_filled_on_as_it_empties(desk: Desk) -> None:
    desk.subscribe()
    desk.world.store(*(finding(i) for i in range(250)))
    with desk.delivering(most_waiting=5, findings=10):
        requests = desk.receiver.wait(25, 25)
        desk.outbox.wait(DELIVERED, 25)
    assert ids(requests) == [f"f{i:06d}" for i in range(250)]


def test_a_local_address_is_not_called_unless_allowed(desk: Desk) -> None:
    desk.subscribe()
    with desk.delivering(allowed=()):
        desk.world.store(finding(1))
        with desk.outbox.changed:
            assert desk.outbox.changed.wait_for(
                lambda: (head := desk.outbox.head("wh-1")) is not None and head.attempts >= 1, 15
            )
    assert "127.0.0.1" in str(_head(desk).last_error)
    assert desk.receiver.requests == []


def test_closing_does_not_wait_for_a_receiver_that_hangs(desk: Desk) -> None:
    desk.subscribe()
    desk.receiver.answers.append("hang")
    started = datetime.now(UTC)
    with desk.delivering(seconds=60.0):
        desk.world.store(finding(1))
        desk.receiver.wait(1)
    assert (datetime.now(UTC) - started).total_seconds() < 20
    assert _head(desk).attempts == 0


def test_a_database_that_is_away_for_a_while_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.subscribe()
    failures = iter([OSError("away"), OSError("away")])
    real = desk.world.findings.after

    def after(number: int, limit: int) -> list[dict[str, Any]]:
        if (failure := next(failures, None)) is not None:
            raise failure
        return real(number, limit)

    monkeypatch.setattr(desk.world.findings, "after", after)
    with desk.delivering() as deliverer:
        desk.world.store(finding(1))
        desk.world.store(finding(2))
        while len(desk.receiver.requests) < 2:
            deliverer.wake()
            with desk.receiver.changed:
                desk.receiver.changed.wait(0.1)
        assert ids(desk.receiver.requests) == ["f000001", "f000002"]


def test_secrets_are_neither_stored_nor_logged(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desk.subscribe()
    secret = desk.secrets.of("wh-1", SALT)
    desk.receiver.answers.append((500, {}))
    with desk.delivering():
        desk.world.store(finding(1))
        desk.outbox.wait(DELIVERED, 1)
    path = desk.world.database.path
    assert path is not None
    stored = path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()
    raw = secret.removeprefix("whsec_")
    assert raw.encode() not in stored
    assert raw not in caplog.text
    assert secret != desk.secrets.of("wh-2", SALT)
    assert secret != Secrets(lambda: b"j" * 32).of("wh-1", SALT)


def test_what_retry_after_may_say() -> None:
    now = 1_800_000_000.0
    assert retry_after("7", now) == 7
    assert retry_after("999999999", now) == 6 * 3600
    assert retry_after("Fri, 15 Jan 2027 08:00:30 GMT", now) == 30
    assert retry_after("Fri, 15 Jan 2021 08:00:30 GMT", now) == 0
    for nonsense in (None, "", "soon", "-1", "9" * 40, "١"):
        assert retry_after(nonsense, now) == 0


def test_pauses_grow_up_to_the_longest_and_are_spread() -> None:
    limits = WebhookLimits(first_pause=5, longest_pause=3600)
    assert [limits.pause(n, 1.0) for n in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert limits.pause(2, 0.0) == 5
    assert limits.pause(1000, 1.0) == 3600

"""Keys: what opens the door, what does not, and how soon a revoked one stops to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.testclient import TestClient

from tests.service.fakes import NOW, FakeHost, FakeKeys, client, settings
from trace_engine.service.access import (
    CACHE_SECONDS,
    INCLUDES,
    KEPT_SECONDS,
    USED_SECONDS,
    Caller,
    Doorkeeper,
    Role,
    new_key,
    require,
)
from trace_engine.service.app import create_app
from trace_engine.service.limits import Places
from trace_engine.service.problems import Problem
from trace_engine.service.routes._query import StrictRoute
from trace_engine.store.keys import KeyRecord


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def test_a_key_is_long_random_and_only_its_digest_is_kept() -> None:
    text, row = new_key("a", frozenset({Role.READ}), now=NOW)
    other, _ = new_key("a", frozenset({Role.READ}), now=NOW)
    secret = text.split("_", 2)[2]
    assert len(base64.urlsafe_b64decode(secret + "=")) * 8 >= 256
    assert text != other
    assert secret not in repr(row)
    assert row.digest.hex() not in repr(row)
    assert secret.encode() not in row.digest + row.salt


def doorkeeper() -> tuple[Doorkeeper, FakeKeys, Clock]:
    keys, clock = FakeKeys(), Clock()
    return Doorkeeper(keys, clock), keys, clock


def test_right_key_gives_its_roles_and_anything_else_nothing() -> None:
    door, keys, _ = doorkeeper()
    text = keys.add(Role.READ)
    caller = door.check(text)
    assert caller is not None
    assert caller.roles == {Role.READ}
    for wrong in (
        None,
        "",
        "te_",
        text[:-1],
        text + "x",
        text.replace("te_", "tf_", 1),
        "x" * 5000,
    ):
        assert door.check(wrong) is None


@pytest.mark.parametrize("key_id", ["\0abc", "0123456789a", "0123456789AB", "\u0660" * 12])
def test_what_cannot_be_an_id_never_reaches_the_store(key_id: str) -> None:
    door, keys, _ = doorkeeper()
    keys.add(Role.READ)
    assert door.check(f"te_{key_id}_s") is None
    assert keys.asked == 0


def test_secret_of_one_key_does_not_open_another() -> None:
    door, keys, _ = doorkeeper()
    first, second = keys.add(Role.ADMIN), keys.add(Role.READ)
    mixed = "_".join([*first.split("_")[:2], second.split("_", 2)[2]])
    assert door.check(mixed) is None


def test_expired_key_is_refused_from_its_moment_on() -> None:
    door, keys, clock = doorkeeper()
    text = keys.add(Role.READ, expires_at=NOW + timedelta(seconds=2))
    clock.now += 1.9
    assert door.check(text) is not None
    clock.now += 0.1
    assert door.check(text) is None


def test_revoked_key_is_refused_once_the_memory_of_it_is_over() -> None:
    door, keys, clock = doorkeeper()
    text = keys.add(Role.READ)
    assert door.check(text) is not None
    for key_id, row in list(keys.rows.items()):
        keys.rows[key_id] = replace(row, revoked_at=NOW)
    clock.now += CACHE_SECONDS
    assert door.check(text) is None


def test_store_is_asked_once_and_use_is_noted_once_a_minute() -> None:
    door, keys, clock = doorkeeper()
    text = keys.add(Role.READ)
    for _ in range(50):
        assert door.check(text) is not None
    door.close()
    assert keys.asked == 1
    assert len(keys.uses) == 1
    clock.now += USED_SECONDS
    door.check(text)
    door.close()
    assert len(keys.uses) == 2


class AwayKeys(FakeKeys):
    """Keys in a store that can fail, or not answer at all."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.answers = threading.Event()
        self.answers.set()

    def get(self, key_id: str) -> KeyRecord | None:
        self._reach()
        return super().get(key_id)

    def used(self, key_id: str, at: datetime) -> None:
        self._reach()
        super().used(key_id, at)

    def any(self) -> bool:
        self._reach()
        return super().any()

    def _reach(self) -> None:
        assert self.answers.wait(20)
        if self.fails:
            raise OSError("no database")


@pytest.mark.parametrize("hangs", [False, True])
def test_known_key_stays_good_while_the_store_is_away(hangs: bool) -> None:
    keys, clock = AwayKeys(), Clock()
    door = Doorkeeper(keys, clock, answer_seconds=0.05)
    text, unknown = keys.add(Role.READ), keys.add(Role.READ)
    short = keys.add(Role.READ, expires_at=NOW + timedelta(seconds=KEPT_SECONDS / 2))
    assert door.check(text) is not None
    assert door.check(short) is not None
    door.close()
    keys.fails = not hangs
    if hangs:
        keys.answers.clear()
    began = time.monotonic()
    clock.now += CACHE_SECONDS
    for _ in range(100):
        assert door.check(text) is not None
        assert door.is_fresh(unknown)  # nobody is made to wait for what does not come
        with pytest.raises(Problem) as raised:
            door.check(unknown)
        assert raised.value.status_code == 503
        assert door.check("te_nonsense") is None
    assert time.monotonic() - began < 2
    clock.now += KEPT_SECONDS - CACHE_SECONDS - 0.5
    assert door.check(text) is not None
    assert door.check(short) is None  # it expired meanwhile
    clock.now += 0.5
    with pytest.raises(Problem):
        door.check(text)
    keys.fails = False
    keys.answers.set()
    door.close()  # what was asked is answered
    clock.now += CACHE_SECONDS
    with contextlib.suppress(Problem):
        door.check(unknown)
    door.close()
    assert door.check(unknown) is not None
    assert door.check(text) is not None


def test_open_service_stays_open_while_the_store_is_away() -> None:
    keys, clock = AwayKeys(), Clock()
    door = Doorkeeper(keys, clock)
    assert door.check(None) is not None
    keys.fails = True
    clock.now += KEPT_SECONDS - 1
    assert door.check(None) is not None
    clock.now += 1
    with pytest.raises(Problem):
        door.check(None)


def test_use_that_cannot_be_written_hinders_nobody_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Locked(FakeKeys):
        def used(self, key_id: str, at: datetime) -> None:
            raise OSError("locked")

    keys, clock = Locked(), Clock()
    door = Doorkeeper(keys, clock)
    text = keys.add(Role.READ)
    for _ in range(3):
        assert door.check(text) is not None
        clock.now += USED_SECONDS
    door.close()
    told = [one for one in caplog.records if "last use" in one.message]
    assert len(told) == 1


def test_request_with_a_key_never_known_is_told_to_come_again() -> None:
    keys = AwayKeys()
    text, unknown = keys.add(Role.READ), keys.add(Role.READ)
    with client(guarded(keys)) as c:
        assert c.get("/for/x", headers={"X-API-Key": text}).status_code == 200
        keys.fails = True
        answer = c.get("/for/x", headers={"X-API-Key": unknown})
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/unavailable"
        assert answer.headers["retry-after"] == "5"
        assert c.get("/for/x", headers={"X-API-Key": text}).status_code == 200


def test_open_until_the_first_key_and_never_again() -> None:
    door, keys, clock = doorkeeper()
    caller = door.check(None)
    assert caller is not None
    assert caller.may(Role.ADMIN)
    keys.add(Role.READ)
    clock.now += CACHE_SECONDS
    assert door.check(None) is None
    keys.rows.clear()
    clock.now += 10 * CACHE_SECONDS
    assert door.check(None) is None


def test_officer_reads_admin_does_everything_and_ingest_only_sends() -> None:
    assert INCLUDES[Role.OFFICER] >= {Role.READ}
    assert INCLUDES[Role.ADMIN] == set(Role)
    assert INCLUDES[Role.INGEST] == {Role.INGEST}
    assert INCLUDES[Role.READ] == {Role.READ}
    assert Caller("", "", frozenset({Role.INGEST, Role.READ})).may(Role.READ)
    assert not Caller("", "", frozenset()).may(*Role)


def guarded(keys: FakeKeys, **given: object) -> FastAPI:
    app = create_app(FakeHost(), settings(**given), keys=keys, audit=lambda _: None, routes=())

    @app.get("/for/{role}")
    async def read(caller: Annotated[Caller, Depends(require(Role.READ))]) -> dict[str, str]:
        return {"key": caller.key_id}

    @app.post("/for/{role}")
    async def send(caller: Annotated[Caller, Depends(require(Role.INGEST))]) -> dict[str, str]:
        return {"key": caller.key_id}

    return app


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys()


def test_key_is_taken_from_either_header_and_basic_only_to_read(keys: FakeKeys) -> None:
    text = keys.add(Role.READ, Role.INGEST)
    basic = "Basic " + base64.b64encode(f"anyone:{text}".encode()).decode()
    with client(guarded(keys)) as c:
        for headers in (
            {"Authorization": f"Bearer {text}"},
            {"Authorization": f"bearer {text}"},
            {"X-API-Key": text},
            {"Authorization": basic},
        ):
            assert c.get("/for/x", headers=headers).status_code == 200
        # A browser adds Basic to requests that other sites cause.
        assert c.post("/for/x", headers={"Authorization": basic}).status_code == 401
        assert c.post("/for/x", headers={"X-API-Key": text}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Basic !!!",
        "Basic /w==",
        "Basic",
        "Bearer",
        "Bearer  ",
        "Digest x",
        "Basic eA==",
        "\xe9\xe9",
    ],
)
def test_broken_credentials_are_refused_alike(keys: FakeKeys, header: str) -> None:
    keys.add(Role.READ)
    with client(guarded(keys)) as c:
        answer = c.get("/for/x", headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == "/problems/unauthenticated"


def test_missing_role_is_forbidden_and_said_in_both_languages(keys: FakeKeys) -> None:
    text = keys.add(Role.READ)
    with client(guarded(keys)) as c:
        answer = c.post("/for/x", headers={"X-API-Key": text})
    assert answer.status_code == 403
    assert "ingest" in answer.json()["detail"]
    assert "ingest" in answer.json()["detail_zh"]


def test_wrong_keys_of_one_address_are_soon_not_looked_at(keys: FakeKeys) -> None:
    text = keys.add(Role.READ)
    with client(guarded(keys, rate_of_refusals="3/minute")) as c:
        statuses = [
            c.get("/for/x", headers={"X-API-Key": f"te_{i:012x}_guess"}).status_code
            for i in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]
        asked = keys.asked
        late = c.get("/for/x", headers={"X-API-Key": text})
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) >= 1
        assert keys.asked == asked
        assert "trace_engine_refused_keys_total 3.0" in metrics_page(c)


def metrics_page(c: TestClient) -> str:
    return str(c.app.state.metrics.page().decode())  # type: ignore[attr-defined]


def test_counting_starts_no_threads_and_forgets_old_counters(
    keys: FakeKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would start one for nearly each request."""
    text = keys.add(Role.READ)
    with client(guarded(keys, rate_per_key="1000000/second")) as c:
        c.get("/for/x", headers={"X-API-Key": text})
        before = threading.active_count()
        monkeypatch.setattr(
            threading, "Timer", lambda *_: pytest.fail("a thread is started to forget counters")
        )
        for _ in range(50):
            assert c.get("/for/x", headers={"X-API-Key": text}).status_code == 200
        assert threading.active_count() <= before + 1
        storage = c.app.state.limiter._window.storage  # type: ignore[attr-defined]
        storage.expirations = dict.fromkeys(storage.expirations, 0.0)
        storage._swept = 0.0
        c.get("/for/x", headers={"X-API-Key": text})
        assert len(storage.storage) <= 1


def test_each_key_has_its_own_rate(keys: FakeKeys) -> None:
    first, second = keys.add(Role.READ), keys.add(Role.READ)
    with client(guarded(keys, rate_per_key="2/minute")) as c:
        got = [c.get("/for/x", headers={"X-API-Key": first}).status_code for _ in range(3)]
        assert got == [200, 200, 429]
        assert c.get("/for/x", headers={"X-API-Key": second}).status_code == 200


def test_address_without_key_has_a_rate_of_its_own(keys: FakeKeys) -> None:
    text = keys.add(Role.READ)
    with client(guarded(keys, rate_per_address="2/minute")) as c:
        assert [c.get("/healthz").status_code for _ in range(3)] == [200, 200, 429]
        assert c.get("/healthz", headers={"X-API-Key": text}).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/docs", "/static/x", "/nowhere"])
def test_key_that_is_not_valid_lifts_no_limit_of_its_address(keys: FakeKeys, path: str) -> None:
    text = keys.add(Role.READ)
    junk = {"X-API-Key": "junk"}, {"Authorization": "Basic eA=="}, {"X-API-Key": text[:-1] + "."}
    with client(guarded(keys, rate_per_address="2/minute")) as c:
        got = [c.get(path, headers=headers).status_code for headers in junk]
        assert got[2] == 429
        assert 429 not in got[:2]
        assert c.get(path, headers={"X-API-Key": text}).status_code != 429


def with_body(keys: FakeKeys, **given: object) -> FastAPI:
    """Return an app with a route that takes a body, as those below ``/v1`` do."""
    app = create_app(FakeHost(), settings(**given), keys=keys, audit=lambda _: None, routes=())
    router = APIRouter(prefix="/v1", route_class=StrictRoute)

    @router.post("/things")
    async def take(
        things: list[int], caller: Annotated[Caller, Depends(require(Role.INGEST))]
    ) -> dict[str, str]:
        return {"key": caller.key_id, "things": str(sum(things))}

    app.include_router(router)
    return app


@pytest.mark.parametrize(("sent", "status"), [("junk", 401), (None, 401), ("reader", 403)])
def test_who_may_not_ask_is_told_before_the_body_comes(
    keys: FakeKeys, sent: str | None, status: int
) -> None:
    key = keys.add(Role.READ) if sent == "reader" else sent
    keys.add(Role.READ)
    app = with_body(keys)
    answers: list[Any] = []

    async def call() -> None:
        parts = [{"type": "http.request", "body": b"[", "more_body": True}]

        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            answers.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"content-length", b"1000")]
        headers += [(b"content-type", b"application/json")]
        if key is not None:
            headers.append((b"x-api-key", key.encode()))
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/things",
            "raw_path": b"/v1/things",
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
            "scheme": "http",
            "http_version": "1.1",
        }
        async with asyncio.timeout(10):
            await app(scope, receive, send)

    asyncio.run(call())
    assert answers[0]["status"] == status


def test_request_asked_for_its_key_twice_is_counted_once(keys: FakeKeys) -> None:
    text = keys.add(Role.INGEST)
    with client(with_body(keys, rate_per_key="2/minute")) as c:
        got = [c.post("/v1/things", json=[1, 2], headers={"X-API-Key": text}) for _ in range(3)]
        assert [answer.status_code for answer in got] == [200, 200, 429]
        assert got[0].json() == {"key": next(iter(keys.rows)), "things": "3"}
        c.post("/v1/things", json=[1], headers={"X-API-Key": "junk"})
        assert "trace_engine_refused_keys_total 1.0" in metrics_page(c)


def test_strangers_take_no_place_of_known_callers(keys: FakeKeys) -> None:
    text = keys.add(Role.READ)
    app = guarded(keys, most_in_flight=1)
    entered, leave = threading.Event(), threading.Event()

    @app.get("/long")
    def long() -> str:
        entered.set()
        leave.wait(20)
        return "done"

    with client(app) as c:
        answers: list[int] = []
        junk = {"X-API-Key": "junk"}
        first = threading.Thread(
            target=lambda: answers.append(c.get("/long", headers=junk).status_code)
        )
        first.start()
        assert entered.wait(20)
        crowded = c.get("/docs", headers=junk)
        known = c.get("/for/x", headers={"X-API-Key": text})
        leave.set()
        first.join(20)
        assert crowded.status_code == 503
        assert known.status_code == 200
        assert answers == [200]
        assert c.get("/docs", headers=junk).status_code == 200


def test_places_are_shared_out_by_address() -> None:
    places = Places(16)
    assert [places.take("a") for _ in range(3)] == [True, True, False]
    assert places.take("b")
    assert all(places.take(None) for _ in range(16))
    assert not places.take(None)
    assert places.taken == 19
    places.give("a")
    assert places.take("a")
    assert not places.take("a")
    assert sum(places.take(f"c{i}") for i in range(50)) == 16 - 3
    for who in ("a", "a", "b"):
        places.give(who)
    places.give(None)
    assert places.take(None)
    assert places.taken == 16 + 13


def test_openapi_document_is_made_once(keys: FakeKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    app = guarded(keys)
    with client(app) as c:
        first = c.get("/openapi.json")
        assert first.headers["content-type"] == "application/json"
        assert first.json() == app.openapi()
        monkeypatch.setattr(app, "openapi", lambda: pytest.fail("made again"))
        assert c.get("/openapi.json").content == first.content


def test_no_key_text_reaches_the_log(keys: FakeKeys, caplog: pytest.LogCaptureFixture) -> None:
    text = keys.add(Role.READ)
    caplog.set_level("DEBUG")
    with client(guarded(keys)) as c:
        c.get("/for/x", headers={"X-API-Key": text})
    logged = [record.__dict__ for record in caplog.records if record.name == "trace_engine.access"]
    assert logged
    assert logged[-1]["key_id"] == next(iter(keys.rows))
    assert text.split("_", 2)[2] not in str(logged)

"""What the gate lets through, what it refuses, and what it adds to every answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, FastAPI, Query, Request
from starlette.testclient import TestClient

from tests.service.fakes import FakeHost, FakeKeys, client, settings
from trace_engine.service.access import Caller, Role, require
from trace_engine.service.app import create_app
from trace_engine.service.audit import Note
from trace_engine.service.deps import record
from trace_engine.service.gate import EVENTS_PATH
from trace_engine.service.headers import CONTENT_POLICY
from trace_engine.service.problems import KINDS, Problem

MOST, MOST_SMALL = 4096, 1024


class App:
    """An app with a route of every kind, and what became of its notes."""

    def __init__(self, **given: Any) -> None:
        self.notes: list[Note] = []
        self.broken = False
        self.changes = 0
        options = {"most_body_bytes": MOST, "most_small_body_bytes": MOST_SMALL} | given
        self.app = create_app(
            FakeHost(), settings(**options), keys=FakeKeys(), audit=self.take, routes=()
        )
        self.read_bytes = -1
        self._routes(self.app)

    def take(self, notes: list[Note]) -> None:
        if self.broken:
            raise OSError("no database")
        self.notes += notes

    def _routes(self, app: FastAPI) -> None:
        @app.post(EVENTS_PATH)
        async def events(request: Request) -> dict[str, int]:
            self.read_bytes = 0
            async for part in request.stream():
                self.read_bytes += len(part)
            return {"bytes": self.read_bytes}

        @app.post("/small")
        async def small(body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
            return body

        @app.get("/number")
        async def number(of: Annotated[int, Query(ge=1)]) -> int:
            return of

        @app.get("/fault")
        async def fault() -> None:
            raise RuntimeError("secret te_0123456789ab_ABCDEFGHIJKLMNOP of 110101199003070038")

        @app.get("/own")
        async def own() -> None:
            raise Problem(409, "conflict", detail="taken", holder="x")

        @app.get("/seen")
        async def seen(request: Request, _c: Annotated[Caller, Depends(require(Role.READ))]) -> str:
            record(request, "thing.read", "thing-1", page=2)
            return "seen"

        @app.post("/changed")
        def changed(request: Request, _c: Annotated[Caller, Depends(require(Role.ADMIN))]) -> str:
            self.changes += 1
            record(request, "thing.change", "thing-1")
            return "changed"


@pytest.fixture
def made() -> App:
    return App()


@pytest.fixture
def c(made: App) -> Iterator[TestClient]:
    with client(made.app, raise_server_exceptions=False) as c:
        yield c


def told(answer: Any, status: int, kind: str) -> dict[str, Any]:
    """Check that an answer is a whole problem document, and return it."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{kind}"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    for member in ("title", "title_zh", "detail"):
        assert body[member]
    assert any("\u4e00" <= letter <= "\u9fff" for letter in body["title_zh"])
    assert "Traceback" not in answer.text
    assert answer.headers["content-security-policy"] == CONTENT_POLICY
    return body


def test_unknown_address_and_method(c: TestClient) -> None:
    told(c.get("/nothing"), 404, "not-found")
    answer = c.delete("/own")
    told(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


def test_own_problem_keeps_its_members(c: TestClient) -> None:
    assert told(c.get("/own"), 409, "conflict")["holder"] == "x"


def test_fault_of_the_program_says_nothing_of_its_cause(
    c: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = c.get("/fault")
    body = told(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text
    failed = [r for r in caplog.records if r.message == "a request failed"]
    assert failed[0].__dict__["request_id"] == body["request_id"]


def test_invalid_values_are_named_but_not_repeated(c: TestClient) -> None:
    answer = c.get("/number", params={"of": "110101199003070038x"})
    body = told(answer, 422, "invalid")
    assert body["errors"][0]["where"] == "query.of"
    assert "110101199003070038" not in answer.text


def test_broken_json_is_the_callers_fault(c: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    told(c.post("/small", content=b'{"a":', headers=headers), 422, "invalid")
    told(c.post("/small", content=b"\xff\xfe\x00", headers=headers), 400, "bad-request")


def test_every_answer_carries_the_security_headers(c: TestClient) -> None:
    for path in ("/healthz", "/", "/docs", "/static/page.css", "/nothing"):
        headers = c.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"] == CONTENT_POLICY
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] in ("no-store", "no-cache")
    assert "unsafe" not in CONTENT_POLICY


def test_no_answer_allows_another_origin(c: TestClient) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answer = c.options("/small", headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_request_id_of_the_caller_is_kept_if_harmless(c: TestClient) -> None:
    assert c.get("/healthz", headers={"X-Request-ID": "a.b-9"}).headers["x-request-id"] == "a.b-9"
    for bad in ("", "x" * 65, "a b", 'a"b'):
        assert c.get("/healthz", headers={"X-Request-ID": bad}).headers["x-request-id"] != bad


# ---- size and time ------------------------------------------------------------------------------


def test_length_beyond_the_limit_is_refused_before_the_body_is_read(
    made: App, c: TestClient
) -> None:
    assert c.post(EVENTS_PATH, content=b"x" * MOST).json() == {"bytes": MOST}
    made.read_bytes = -1
    body = told(c.post(EVENTS_PATH, content=b"x" * (MOST + 1)), 413, "too-large")
    assert body["most_bytes"] == MOST
    assert made.read_bytes == -1


def test_streamed_body_is_cut_at_the_limit(made: App, c: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 512

    told(c.post(EVENTS_PATH, content=parts()), 413, "too-large")
    assert made.read_bytes <= MOST


def test_other_bodies_have_the_small_limit(c: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    text = b'{"a":"' + b"x" * MOST_SMALL + b'"}'
    told(c.post("/small", content=text, headers=headers), 413, "too-large")
    told(c.post("/small", content=iter([text]), headers=headers), 413, "too-large")


def test_long_address_and_headers_are_refused(c: TestClient) -> None:
    told(c.get("/healthz", params={"q": "x" * 9000}), 414, "address-too-long")
    told(c.get("/healthz", headers={"X-Long": "x" * 17_000}), 431, "headers-too-large")


def test_body_that_comes_too_slowly_is_given_up() -> None:
    made = App(body_seconds=0.05)
    sent: list[dict[str, Any]] = []

    async def call() -> None:
        async def never() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": EVENTS_PATH,
            "raw_path": EVENTS_PATH.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
            "scheme": "http",
            "http_version": "1.1",
        }
        async with asyncio.timeout(10):
            await made.app(scope, never, send)

    asyncio.run(call())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in [(k.lower(), v) for k, v in sent[0]["headers"]]


def test_more_at_once_than_allowed_is_turned_away() -> None:
    made = App(most_in_flight=1)
    entered, leave = threading.Event(), threading.Event()

    @made.app.get("/long")
    def long() -> str:
        entered.set()
        leave.wait(20)
        return "done"

    with client(made.app) as c:
        answers: list[Any] = []
        first = threading.Thread(target=lambda: answers.append(c.get("/long")))
        first.start()
        assert entered.wait(20)
        crowded = c.get("/number?of=1")
        healthy = c.get("/healthz")
        leave.set()
        first.join(20)
        told(crowded, 503, "unavailable")
        assert crowded.headers["retry-after"] == "1"
        assert healthy.status_code == 200  # a monitor must not be turned away
        assert answers[0].status_code == 200
        assert c.get("/number?of=1").status_code == 200


# ---- whose host ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1:8420", "[::1]:8420", "LOCALHOST:1"])
def test_open_service_answers_to_names_of_this_machine(c: TestClient, name: str) -> None:
    assert c.get("/healthz", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil:80"]
)
def test_open_service_answers_to_no_other_name(c: TestClient, name: str) -> None:
    """A page may give its own name the address 127.0.0.1 and would then be of one origin with us."""
    told(c.get("/healthz", headers={"Host": name}), 421, "wrong-host")


def test_names_can_be_set() -> None:
    with client(App(allowed_hosts=("Trace.example",)).app) as c:
        assert c.get("/healthz", headers={"Host": "trace.EXAMPLE:443"}).status_code == 200
        assert c.get("/healthz", headers={"Host": "127.0.0.1"}).status_code == 421


# ---- audit --------------------------------------------------------------------------------------


def test_what_is_seen_and_changed_is_noted_with_who_and_when(made: App, c: TestClient) -> None:
    answer = c.post("/changed", headers={"X-Request-ID": "r-1"})
    assert answer.status_code == 200
    (note,) = made.notes  # on disk before the answer came
    assert note["action"] == "thing.change"
    assert note["subject"] == "thing-1"
    assert note["request_id"] == "r-1"
    assert note["name"] == "open"
    assert note["at"].utcoffset() is not None


def test_looks_are_noted_when_the_app_ends_at_the_latest(made: App) -> None:
    with client(made.app) as c:
        for _ in range(5):
            assert c.get("/seen").status_code == 200
    assert [note["details"] for note in made.notes] == [{"page": 2}] * 5


def test_change_is_not_answered_while_it_cannot_be_noted(
    made: App, c: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.broken = True
    with monkeypatch.context() as patch:
        patch.setattr("trace_engine.service.gate.AUDIT_SECONDS", 0.05)
        told(c.post("/changed"), 503, "unavailable")
    assert made.changes == 1  # nobody knew yet
    told(c.post("/changed"), 503, "unavailable")
    assert made.changes == 1  # nothing is changed any more that cannot be noted
    assert c.get("/seen").status_code == 200
    assert made.notes == []
    made.broken = False
    deadline = time.monotonic() + 30
    while (answer := c.post("/changed")).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status_code == 200
    made.notes = [note for note in made.notes if note["action"] == "thing.change"]
    assert len(made.notes) == 2  # the first was kept and written in the end


def test_every_status_has_a_kind() -> None:
    for name, kind in KINDS.items():
        assert name == name.lower()
        assert 400 <= kind.status < 600
        assert all(kind)

"""The client against the real app, and against a service that is busy or away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from tests.service.fakes import FakeKeys, client, settings
from trace_engine.client import Client, ServiceProblem
from trace_engine.service.access import Role
from trace_engine.service.app import create_app
from trace_engine.service.host import EngineHost

URL = "http://127.0.0.1"


def events(count: int, day: str = "2026-03-01", first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"{day}-{n}", "event_time": f"{day} 10:00:00", "event_type": "sale_shipment",
            "code": f"8100001{n:013d}", "actor_id": "P1", "from_id": "P1", "to_id": "P2",
            "unit_price": 10 if n % 2 else 9.5,
        }
        for n in range(first, first + count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EngineHost, TestClient, str]]:
    host = EngineHost.open(settings(data=tmp_path_factory.mktemp("data"), future_days=9999))
    host.start()
    assert host.loop.started.wait(300)  # kernels may have to be compiled
    keys = FakeKeys()
    key = keys.add(Role.ADMIN)
    app = create_app(host, settings(), keys=keys, audit=lambda notes: None)
    with client(app) as http:
        yield host, http, key
    host.close()


class Over(httpx.BaseTransport):
    """Carries requests into an app without a socket."""

    def __init__(self, http: TestClient) -> None:
        self._http = http

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._http.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(
            answer.status_code, headers=dict(answer.headers), content=answer.content
        )


@pytest.fixture
def caller(served: tuple[EngineHost, TestClient, str]) -> Iterator[Client]:
    _, http, key = served
    with Client(URL, key, transport=Over(http)) as caller:
        yield caller


def test_nothing_of_the_service_is_imported() -> None:
    code = (
        "import sys, trace_engine.client\n"
        "heavy = {'numba', 'fastapi', 'starlette', 'sqlalchemy', 'uvicorn', 'sklearn'}\n"
        "found = [m for m in sys.modules if m.split('.')[0] in heavy\n"
        "         or m.startswith('trace_engine.') and m != 'trace_engine.client']\n"
        "sys.exit(', '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_events_in_every_form_are_split_and_counted_once(caller: Client) -> None:
    rows = events(25)
    table = pa.Table.from_pylist([{**row, "unit_price": float(row["unit_price"])} for row in rows])
    receipts = list(caller.send_events(table, batch_id="T", rows=10))
    assert [r["rows"] for r in receipts] == [10, 10, 5]
    assert [r["batch_id"] for r in receipts] == ["T.0", "T.1", "T.2"]
    again = list(caller.send_events(table, batch_id="T", rows=10, compression="lz4"))
    assert [r["repeated"] for r in again] == [True, True, True]
    assert [r["offset"] for r in again] == [r["offset"] for r in receipts]
    assert caller.batch("T.1")["offset"] == receipts[1]["offset"]
    assert caller.send_all(rows)["accepted"] == 25
    assert caller.send_all(iter(table.to_batches(max_chunksize=7)))["requests"] == 4
    assert caller.send_all(table.to_batches()[0])["accepted"] == 25
    assert caller.send_all([])["requests"] == 0


def test_a_row_that_fits_no_type_is_sent_as_text(caller: Client) -> None:
    rows = [*events(1), {**events(2)[1], "unit_price": "cheap", "quantity": 2**70}]
    answer = next(caller.send_events(rows))
    assert (answer["accepted"], answer["rejected"]) == (1, 1)


def test_what_is_known_can_be_asked(caller: Client) -> None:
    caller.send_all(events(30, "2026-04-01", first=500))
    sold = [
        {**row, "event_type": "retail_sale", "event_id": f"{row['event_id']}-{n}",
         "actor_id": f"S{n}", "from_id": f"S{n}", "to_id": None,
         "event_time": f"2026-04-02 1{n}:00:00"}
        for row in events(10, "2026-04-02", first=500)
        for n in range(3)
    ]  # fmt: skip
    caller.send_all(sold)
    closed = caller.close_days("2026-04-02")
    assert closed["pending"] is False
    found = list(caller.findings(limit=3))
    assert len(found) > 3
    assert caller.finding(found[0]["finding_id"])["finding_id"] == found[0]["finding_id"]
    assert [f["number"] for f in caller.findings(limit=2, order="oldest")] == sorted(
        f["number"] for f in found
    )
    sellers = list(caller.sellers(limit=2))
    assert (
        caller.seller(sellers[0]["enterprise_id"])["seller"]["enterprise_id"]
        == sellers[0]["enterprise_id"]
    )
    assert caller.code(events(1, first=500)[0]["code"])["code"] == events(1, first=500)[0]["code"]
    assert caller.graph("P1", depth=1)["enterprise_id"] == "P1"
    plan = caller.sampling_plan(2, seed=5)
    assert plan
    outcome = {
        "outcome_id": "o1", "enterprise_id": "S1", "date": "2026-04-03", "kind": "inspection",
        "outcome": "violation",
    }  # fmt: skip
    assert caller.add_outcomes([outcome])["added"] == 1
    assert caller.add_outcomes([outcome])["repeated"] == 1
    assert [o["outcome_id"] for o in caller.outcomes()] == ["o1"]
    assert caller.status()["state"] == "ready"
    assert caller.is_ready()


def test_problems_are_raised_typed(
    caller: Client, served: tuple[EngineHost, TestClient, str]
) -> None:
    with pytest.raises(ServiceProblem) as caught:
        caller.batch("no such/batch?")
    assert caught.value.status in (404, 422)
    with pytest.raises(ServiceProblem) as caught:
        caller.batch("nobody")
    assert (caught.value.status, caught.value.kind) == (404, "not-found")
    assert caught.value.detail_zh == "没有此批次号的批次"
    with (
        Client(URL, "te_wrong", transport=Over(served[1])) as stranger,
        pytest.raises(ServiceProblem) as caught,
    ):
        stranger.status()
    assert caught.value.kind == "unauthenticated"


class Script(httpx.MockTransport):
    """A service that answers as told, one answer after the other."""

    def __init__(self, *answers: Callable[[], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = iter(answers)
        super().__init__(self._next)

    def _next(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return next(self._answers)()


def problem(status: int, **headers: str) -> Callable[[], httpx.Response]:
    document = {"type": "/problems/unavailable", "title": "Not available now", "status": status}
    return lambda: httpx.Response(status, json=document, headers=headers)


def away() -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Take the place of sleeping."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    return slept


RECEIPT = {"rows": 1, "accepted": 1, "rejected": 0, "finding_count": 0, "offset": 3}


def test_a_busy_service_is_asked_again_when_it_says(pauses: list[float]) -> None:
    script = Script(
        problem(429, **{"Retry-After": "7"}), away, problem(503, **{"Retry-After": "2"}),
        lambda: httpx.Response(200, json=RECEIPT),
    )  # fmt: skip
    with Client(URL, "te_k", transport=script) as caller:
        assert caller.send_all(events(1))["offset"] == 3
    assert pauses[0] == 7.0
    assert pauses[2] == 2.0
    sent = {(r.url.params["batch_id"], r.content) for r in script.requests}
    assert len(script.requests) == 4
    assert len(sent) == 1  # the same batch under the same id each time
    assert script.requests[0].headers["authorization"] == "Bearer te_k"


def test_patience_ends(pauses: list[float]) -> None:
    script = Script(*[problem(503, **{"Retry-After": "1"})] * 3)
    with Client(URL, attempts=3, transport=script) as caller:
        with pytest.raises(ServiceProblem) as caught:
            caller.status()
        assert caught.value.retry_after == 1.0
    assert len(script.requests) == 3


def test_what_is_wrong_is_not_repeated(pauses: list[float]) -> None:
    for status in (400, 401, 403, 404, 409, 413, 415, 422):
        script = Script(problem(status))
        with Client(URL, transport=script) as caller, pytest.raises(ServiceProblem):
            caller.send_all(events(1))
        assert len(script.requests) == 1
    script = Script(away)
    with Client(URL, transport=script) as caller, pytest.raises(httpx.ConnectError):
        caller.sampling_plan(3)  # repeating would make another plan
    assert pauses == []


def test_a_fault_of_the_service_is_met_once_more_and_not_oftener(pauses: list[float]) -> None:
    script = Script(problem(500), problem(503), lambda: httpx.Response(200, json=RECEIPT))
    with Client(URL, transport=script) as caller:
        assert caller.send_all(events(1))["offset"] == 3
    assert len({(r.url.params["batch_id"], r.content) for r in script.requests}) == 1
    script = Script(problem(500), problem(503), problem(500))
    with Client(URL, transport=script) as caller, pytest.raises(ServiceProblem) as caught:
        caller.send_all(events(1))
    assert caught.value.status == 500
    script = Script(problem(500))
    with Client(URL, transport=script) as caller, pytest.raises(ServiceProblem):
        caller.sampling_plan(3)  # repeating would make another plan
    assert len(script.requests) == 1


def test_an_answer_that_is_no_problem_document(pauses: list[float]) -> None:
    script = Script(lambda: httpx.Response(404, text="<html>proxy</html>"))
    with Client(URL, transport=script) as caller, pytest.raises(ServiceProblem) as caught:
        caller.finding("f")
    assert (caught.value.status, caught.value.kind) == (404, "unknown")


def told(*numbers: int, last: int | None = None) -> Callable[[], httpx.Response]:
    text = ": open\nid: 4\nretry: 3000\n\n"
    for number in numbers:
        text += f"event: finding\ndata: {json.dumps({'number': number})}\nid: {number}\n\n"
    if last is not None:
        text += f": heartbeat\nid: {last}\n\n"
    return lambda: httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


def test_a_stream_goes_on_after_the_last_finding(pauses: list[float]) -> None:
    script = Script(
        told(5, 6), away, told(9, last=12), problem(503, **{"Retry-After": "4"}), told(13)
    )
    with Client(URL, transport=script) as caller:
        stream = caller.stream(region="37")
        assert [next(stream).number for _ in range(4)] == [5, 6, 9, 13]
        stream.close()
    asked = [r.url.params.get("after") for r in script.requests]
    assert asked == [None, "6", "6", "12", "12"]
    assert {r.url.params["region"] for r in script.requests} == {"37"}
    assert 4.0 in pauses


def test_a_stream_that_is_refused_or_need_not_go_on() -> None:
    with Client(URL, transport=Script(problem(403))) as caller, pytest.raises(ServiceProblem):
        next(caller.stream())
    with Client(URL, transport=Script(told(5))) as caller:
        assert [f["number"] for f in caller.stream(after=1, reconnect=False)] == [5]

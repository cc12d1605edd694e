from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import Iterator
from itertools import islice
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.routes.answers import problem
from tests.service.routes.conftest import Api
from tests.service.routes.serving import listening, serving, until
from tests.service.routes.worlds import finding
from trace_engine.service.streams import StreamLimits, Streams


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    with serving(api.client.app) as address:  # type: ignore[arg-type]
        yield address


def limit(api: Api, **limits: float) -> Streams:
    state = api.client.app.state  # type: ignore[attr-defined]
    streams: Streams = state.streams
    streams.limits = StreamLimits(**limits)  # type: ignore[arg-type]
    return streams


def test_what_is_found_from_now_on_comes_with_its_number(api: Api, url: str) -> None:
    api.world.store(finding(0))
    with listening(url, api.reader) as stream:
        numbers = api.world.store(finding(1), finding(2))
        first, second = islice(stream, 2)
        assert [first.id, second.id] == [str(number) for number in numbers]
        assert first.event == "finding"
        assert first.data == api.get("/v1/findings/f000001").json()
        (again,) = api.world.store(finding(1, event_ids=["e9"]))
        grown = next(stream)
        assert (grown.id, grown.data["finding_id"], grown.data["revision"]) == (
            str(again), "f000001", 1,
        )  # fmt: skip
    assert api.noted("stream.open")["name"] == "reader"


def test_who_resumes_gets_everything_once_and_in_order(api: Api, url: str) -> None:
    total, chance = 400, random.Random(5)

    def produce() -> None:
        for i in range(0, total, 8):
            api.world.store(*(finding(j) for j in range(i, i + 8)))

    producer = threading.Thread(target=produce)
    producer.start()
    seen: list[str] = []
    last = "0"
    while len(seen) < total:
        with listening(url, api.reader | {"Last-Event-ID": last}, after=3) as stream:
            for message in islice(stream, chance.randrange(1, 90)):
                if message.event == "finding":
                    seen.append(message.data["finding_id"])
                    last = message.id
                if len(seen) == total:
                    break
    producer.join()
    assert seen == [f"f{i:06d}" for i in range(total)]


def test_several_listen_and_each_gets_what_it_wants(api: Api, url: str) -> None:
    limit(api, heartbeat=0.05)
    with (
        listening(url, api.reader, severity_min=0.9, region="440000", after=0) as strict,
        listening(url, api.officer, detector="reverse_flow") as other,
    ):
        api.world.store(
            finding(1, severity=0.95),
            finding(2, severity=0.95, region="440103"),
            finding(3, region="440103"),
            finding(4, detector="reverse_flow"),
        )
        wanted = next(m for m in strict if m.event == "finding")
        assert wanted.data["finding_id"] == "f000002"
        assert next(m for m in other if m.event == "finding").data["finding_id"] == "f000004"
        # The heartbeat's id is that of the last finding looked at, so nothing is read again.
        assert next(m for m in strict if m.id == "4").comment == "heartbeat"


def test_who_is_far_behind_is_served_from_the_database(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trace_engine.service.streams.KEPT_ROWS", 5)
    with listening(url, api.reader) as current:
        for i in range(30):
            api.world.store(finding(i))
        assert [m.id for m in islice(current, 30)] == [str(i) for i in range(1, 31)]
        with listening(url, api.reader, after=2) as behind:
            assert [m.id for m in islice(behind, 28)] == [str(i) for i in range(3, 31)]


def test_who_does_not_read_is_dropped_with_a_reason_and_may_resume(api: Api, url: str) -> None:
    streams = limit(api, send_seconds=0.5)
    heavy = [f"{i}-{'x' * 200}" for i in range(500)]
    rows = [finding(i, event_ids=[f"{i}-{text}" for text in heavy]) for i in range(100)]
    api.world.store(*rows)  # 10 MB: more than buffers between here and there hold
    said = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "took nothing" in record.getMessage():
                said.set()

    logger = logging.getLogger("trace_engine.service.streams")
    handler = Listener()
    logger.addHandler(handler)
    try:
        parts = urlsplit(url)
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect((parts.hostname, parts.port))
            fields = "".join(f"{name}: {value}\r\n" for name, value in api.reader.items())
            request = f"GET /v1/stream?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n"
            idle.sendall(request.encode())
            assert said.wait(20)
    finally:
        logger.removeHandler(handler)
    assert len(streams) == 0
    told = api.get("/metrics").text
    assert "trace_engine_streams_dropped_total 1.0" in told
    assert "trace_engine_streams 0.0" in told
    with listening(url, api.reader, after=50) as stream:
        assert [m.id for m in islice(stream, 50)] == [str(i) for i in range(51, 101)]


def test_only_so_many_may_listen(api: Api, url: str) -> None:
    streams = limit(api, most=2, most_per_key=1)
    with listening(url, api.reader), listening(url, api.officer):
        full = httpx.get(f"{url}/v1/stream", headers=api.admin)
        assert "2 streams" in problem(full, 503, "unavailable")["detail"]
        assert full.headers["retry-after"] == "30"
        streams.limits = StreamLimits(most=3, most_per_key=1)
        own = httpx.get(f"{url}/v1/stream", headers=api.reader)
        problem(own, 429, "too-many-requests")


def test_a_stream_ends_by_saying_why(api: Api, url: str) -> None:
    streams = limit(api, lifetime=0.1)
    with listening(url, api.reader, after=0) as stream:
        assert [(m.event, m.data) for m in stream] == [("bye", {"reason": "renew", "after": 0})]
    limit(api)
    with listening(url, api.reader) as stream:
        api.client.app.state.stopping.set()  # type: ignore[attr-defined]
        assert [(m.event, m.data["reason"]) for m in stream] == [("bye", "stopping")]
    until(lambda: len(streams) == 0)


def test_a_number_never_given_is_a_conflict(api: Api) -> None:
    api.world.store(finding(1))
    answer = api.get("/v1/stream", params={"after": 2})
    assert problem(answer, 409, "conflict")["last_number"] == 1
    problem(api.get("/v1/stream", headers={"Last-Event-ID": "x"}), 422, "invalid")
    problem(api.client.get("/v1/stream", headers=api.sender), 403, "forbidden")
    assert len(api.client.app.state.streams) == 0  # type: ignore[attr-defined]

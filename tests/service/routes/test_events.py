"""Events over HTTP: on disk before they are acknowledged, counted once, refused without a trace."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.service.fakes import FakeKeys, client, settings
from trace_engine.service.access import Role
from trace_engine.service.app import create_app
from trace_engine.service.bodies import Media, decode_payload
from trace_engine.service.host import EngineHost
from trace_engine.store.journal import Appended, JournalError, JournalFull

CARD = "11010519491231002X"  # the example of GB 11643
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "event_time": "2026-03-01 10:00:00",
    "event_type": "retail_sale",
    "code": "81000010000000000017",
    "actor_id": "P1",
}
ROUTES = ("events",)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    host = EngineHost.open(settings(data=tmp_path_factory.mktemp("data"), future_days=9999))
    host.start()
    assert host.loop.started.wait(300)  # kernels may have to be compiled
    yield host
    host.close()


@pytest.fixture(scope="module")
def http(host: EngineHost) -> Iterator[TestClient]:
    app = create_app(host, settings(), keys=FakeKeys(), audit=lambda notes: None, routes=ROUTES)
    with client(app) as http:
        yield http


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {**EVENT, "event_id": f"e{number}", "code": f"8100001{number:013d}", **changes}


def stream(events: list[dict[str, Any]]) -> bytes:
    batch = pa.RecordBatch.from_pylist(events)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def test_an_answer_says_where_the_events_are_and_what_was_wrong(
    host: EngineHost, http: TestClient
) -> None:
    body = [event(1), event(2, code=None), event(3, buyer_id=CARD, shelf="A"), 7]
    answer = http.post("/v1/events?wait=30", json=body).json()
    assert answer["rows"] == 4
    assert (answer["accepted"], answer["rejected"]) == (2, 2)
    told = [(r["row"], r["column"], r["reason"]) for r in answer["rejects"]]
    assert told == [(2, "code", "missing_code"), (4, "", "bad_json")]
    assert answer["ignored_columns"] == ["shelf"]
    assert (answer["pending"], answer["late"], answer["repeated"]) == (False, 0, False)
    assert answer["watermark"] == "2026-03-01"
    record = host.journal.read(answer["offset"] - 1)[0]
    assert record.rows == 4
    again = decode_payload(record.payload, host.encoder)
    assert len(again.batch) == 2
    assert CARD.encode() not in record.payload
    assert not [name for name in host.journal.path.parent.rglob("*") if holds(name, CARD)]


def holds(path: Path, text: str) -> bool:
    return path.is_file() and text.encode() in path.read_bytes()


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (json.dumps([event(10)]).encode(), Media.JSON),
        (json.dumps({"events": [event(10)]}).encode(), Media.JSON),
        (json.dumps(event(10)).encode(), Media.NDJSON),
        (stream([event(10)]), Media.ARROW_STREAM),
    ],
)
def test_every_form_of_body(http: TestClient, body: bytes, media: Media) -> None:
    headers = {"Content-Type": media.value}
    plain = http.post("/v1/events", content=body, headers=headers)
    assert plain.status_code == 200
    assert plain.json()["accepted"] == 1
    headers["Content-Encoding"] = "gzip"
    packed = http.post("/v1/events", content=gzip.compress(body), headers=headers)
    assert packed.json()["accepted"] == 1

    def parts() -> Iterator[bytes]:
        for start in range(0, len(body), 50):
            yield body[start : start + 50]

    headers.pop("Content-Encoding")
    assert http.post("/v1/events", content=parts(), headers=headers).json()["accepted"] == 1


def test_a_batch_is_counted_once_by_its_id(host: EngineHost, http: TestClient) -> None:
    body = [event(20)]
    first = http.post("/v1/events?batch_id=B-1", json=body).json()
    last = host.journal.last_offset
    key = {"Idempotency-Key": '"B-1"'}
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    same = gzip.compress(json.dumps(body, separators=(",", ":")).encode())
    for again in (
        http.post("/v1/events?batch_id=B-1", json=body),
        http.post("/v1/events", json=body, headers=key),
        http.post("/v1/events", content=same, headers=key | packed),
    ):
        assert again.json()["repeated"] is True
        assert again.json()["offset"] == first["offset"]
    assert host.journal.last_offset == last
    other = http.post("/v1/events?batch_id=B-1", json=[event(21)])
    assert (other.status_code, other.json()["type"]) == (409, "/problems/conflict")
    inside = {"batch_id": "B-2", "events": body}
    assert http.post("/v1/events", json=inside).json()["batch_id"] == "B-2"
    assert http.post("/v1/events?batch_id=B-3", json=inside).status_code == 422
    assert http.post("/v1/events?batch_id=B-3", json=body, headers=key).status_code == 422
    for wrong in (CARD, "a b", "", "x" * 129, "批次"):
        inside["batch_id"] = wrong
        assert http.post("/v1/events", json=inside).status_code == 422, wrong


def test_a_batch_can_be_looked_up(host: EngineHost, http: TestClient) -> None:
    day = {"event_time": "2026-03-05 08:00:00"}
    sent = http.post("/v1/events?wait=30&batch_id=L-1", json=[event(30, **day)]).json()
    known = http.get("/v1/batches/L-1").json()
    assert (known["offset"], known["rows"], known["state"]) == (sent["offset"], 1, "taken")
    closed = http.post("/v1/watermark?wait=30", json={"close_through": "2026-03-05"}).json()
    assert closed["pending"] is False
    assert closed["closed_through"] == "2026-03-05"
    assert http.get("/v1/batches/L-1").json()["state"] == "judged"
    host.journal.trim(sent["offset"])
    left = http.get("/v1/batches/L-1").json()
    assert (left["rows"], left["state"]) == (None, "taken")
    assert http.get("/v1/batches/nobody").status_code == 404
    late = http.post("/v1/events?wait=30", json=[event(31)]).json()
    assert late["late"] == 1


def test_days_that_nobody_has_seen_are_not_closed(host: EngineHost, http: TestClient) -> None:
    before = host.journal.last_offset
    answer = http.post("/v1/watermark?wait=30", json={"close_through": "2099-01-01"})
    assert (answer.status_code, host.journal.last_offset) == (422, before)


def test_roles(host: EngineHost) -> None:
    keys = FakeKeys()
    ingest, read, admin = (keys.add(role) for role in (Role.INGEST, Role.READ, Role.ADMIN))
    app = create_app(host, settings(), keys=keys, audit=lambda notes: None, routes=ROUTES)

    def asked(method: str, path: str, key: str, **more: Any) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return http.request(method, path, headers=headers, **more).status_code

    order = {"close_through": "2026-03-01"}
    with client(app) as http:
        assert http.post("/v1/events", json=[EVENT]).status_code == 401
        assert asked("POST", "/v1/events", ingest, json=[EVENT]) == 200
        assert asked("POST", "/v1/events", read, json=[EVENT]) == 403
        assert asked("POST", "/v1/watermark", ingest, json=order) == 403
        assert asked("POST", "/v1/watermark?wait=30", admin, json=order) == 200
        assert asked("GET", "/v1/batches/B-1", read) in (200, 404)


def test_findings_are_told_to_those_who_may_read_them(
    host: EngineHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One code sold twice: the request that closes the day brings the finding."""
    keys = FakeKeys()
    sender, reader = keys.add(Role.INGEST), keys.add(Role.INGEST, Role.READ)
    app = create_app(host, settings(), keys=keys, audit=lambda notes: None, routes=ROUTES)
    found: list[dict[str, Any]] = []
    with client(app) as http:
        for key, month in ((sender, "05"), (reader, "06")):
            code = f"81000010000000{month}0000"
            sales = [
                event(
                    100 + n, event_id=f"{month}-{n}", code=code, actor_id=f"S{n}",
                    event_time=f"2026-{month}-01 1{n}:00:00", from_id=f"S{n}",
                )
                for n in range(3)
            ]  # fmt: skip
            later = event(110, event_id=f"{month}-late", event_time=f"2026-{month}-09 00:00:00")
            headers = {"Authorization": f"Bearer {key}"}
            http.post("/v1/events", json=sales, headers=headers)
            found.append(http.post("/v1/events?wait=30", json=[later], headers=headers).json())
    assert [answer["finding_count"] > 0 for answer in found] == [True, True]
    assert found[0]["findings"] == []
    assert len(found[1]["findings"]) == found[1]["finding_count"]
    assert all(f["finding_id"] and f["title_zh"] for f in found[1]["findings"])


@pytest.mark.parametrize(
    ("failure", "status"),
    [(JournalFull("full", 2.5), 429), (JournalError("the disk is full"), 503)],
)
def test_a_journal_that_takes_nothing(
    host: EngineHost, http: TestClient, monkeypatch: pytest.MonkeyPatch, failure: Exception,
    status: int,
) -> None:  # fmt: skip
    def submit(*args: Any, **more: Any) -> Future[Appended]:
        future: Future[Appended] = Future()
        if isinstance(failure, JournalFull):
            raise failure
        future.set_exception(failure)
        return future

    monkeypatch.setattr(host, "submit", submit)
    answer = http.post("/v1/events", json=[EVENT])
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) >= 3
    assert "disk" not in answer.text


def test_waiting_for_an_engine_that_is_busy(
    host: EngineHost, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for future in (Future(), Future()):
        monkeypatch.setattr(host, "when_taken", lambda offset, f=future: f)
        answer = http.post("/v1/events?wait=0.05", json=[EVENT]).json()
        assert (answer["pending"], answer["late"]) == (True, None)
        assert future.cancelled()
    assert http.post("/v1/events?wait=31", json=[EVENT]).status_code == 422
    assert http.post("/v1/events?wait=nan", json=[EVENT]).status_code == 422


# ---- bodies made to break things ---------------------------------------------------------------

_ARROW = stream([event(200), event(201)])
_JSON = json.dumps([event(202), event(203, buyer_id=CARD)]).encode()


@st.composite
def broken(draw: st.DrawFn) -> tuple[bytes, str, str]:
    """A body, its type and its packing: cut, flipped, deep, packed or simply something else."""
    body = draw(st.sampled_from([_ARROW, _JSON, _JSON.replace(b"},", b"}\n"), b"[" * 50_000,
                                 b'{"a":' * 20_000, b"\xff\xfe" * 40, b"9" * 6000, b""]))  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        if not body:
            break
        at = draw(st.integers(0, len(body) - 1))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            body = body[:at]
        elif kind == 1:
            body = body[:at] + bytes([draw(st.integers(0, 255))]) + body[at + 1 :]
        elif kind == 2:
            body = body[:at] + draw(st.binary(max_size=12)) + body[at:]
        else:
            huge = draw(st.sampled_from([0, 1, 2**31 - 1, 2**40, 2**62, 2**64 - 1]))
            body = body[:at] + huge.to_bytes(8, "little") + body[at + 8 :]
    media = draw(
        st.sampled_from([*Media, "text/plain", "application/json; charset=gbk", "", "x/y"])
    )
    packing = draw(st.sampled_from(["", "", "gzip", "zstd", "br", "gzip, gzip"]))
    if packing == "gzip" and draw(st.booleans()):
        body = gzip.compress(body)
    if packing == "zstd" and draw(st.booleans()):
        body = pa.compress(body, "zstd", asbytes=True) if body else body
    return body, str(media), packing


@given(broken())
def test_whatever_is_sent_the_service_stands_and_keeps_nothing_of_what_it_refused(
    host: EngineHost, http: TestClient, sent: tuple[bytes, str, str]
) -> None:
    body, media, packing = sent
    before = host.journal.last_offset
    headers = {"Content-Type": media, "Content-Encoding": packing}
    answer = http.post("/v1/events?wait=0", content=body, headers=headers)
    assert answer.status_code < 500, answer.text
    if answer.status_code == 200:
        told = answer.json()
        assert host.journal.last_offset == before + 1 == told["offset"]
        record = host.journal.read(before)[0]
        again = decode_payload(record.payload, host.encoder)
        assert (len(again.batch), again.rejects.num_rows) == (told["accepted"], told["rejected"])
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert host.journal.last_offset == before
    assert http.get("/healthz").status_code == 200


def test_arrow_cut_at_every_place(host: EngineHost, http: TestClient) -> None:
    headers = {"Content-Type": Media.ARROW_STREAM.value}
    before = host.journal.last_offset
    for cut in range(0, len(_ARROW), 7):
        answer = http.post("/v1/events?wait=0", content=_ARROW[:cut], headers=headers)
        assert answer.status_code == 422, cut
    assert host.journal.last_offset == before

"""The same routes over the real engine: what they answer is what batch scoring says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from tests.service.routes.answers import all_pages, fits
from tests.service.routes.conftest import settings_for
from tests.service.routes.receiver import Receiver
from tests.service.routes.serving import listening, serving
from trace_engine.events.findings import REJECTS
from trace_engine.events.raw import RawBatch
from trace_engine.readers.payload import admit
from trace_engine.scoring import Result, score
from trace_engine.service.app import create_app
from trace_engine.service.host import EngineHost
from trace_engine.service.routes.codes import CodePath
from trace_engine.service.routes.findings import FindingsPage
from trace_engine.service.routes.graph import Neighbourhood
from trace_engine.service.routes.plans import Plan
from trace_engine.service.routes.sellers import SellerDetail, SellersPage
from trace_engine.simulate import simulate

EVENTS = 5000


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    simulate(EVENTS, 11, folder)
    return folder


@pytest.fixture(scope="module")
def batch(market: Path) -> Result:
    return score(str(market / "events"), registry=str(market / "registry"))


@pytest.fixture(scope="module")
def table(market: Path) -> pa.Table:
    parts = [pq.read_table(path) for path in sorted((market / "events").iterdir())]
    return pa.concat_tables(parts).sort_by("event_time")


def send(host: EngineHost, table: pa.Table) -> None:
    """Put events into the journal and wait until the engine took them."""
    (events,) = table.combine_chunks().to_batches()
    encoded, payload = admit(RawBatch(events, "request", 1), REJECTS.empty_table(), host.encoder)
    offset = host.submit(encoded, payload).result(10).offset
    assert host.wait_taken(offset, 60) is not None


@pytest.fixture(scope="module")
def told(
    market: Path, table: pa.Table, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EngineHost, TestClient, list[str], list[str]]]:
    """Give a host that took all events, its client, and what a stream and a webhook were sent."""
    data = tmp_path_factory.mktemp("data")
    settings = settings_for(
        data,
        registry=market / "registry",
        future_days=9999,
        webhook_allowed_networks=("127.0.0.0/8",),
    )
    host = EngineHost.open(settings)
    host.start()
    app = create_app(host, settings)
    with Receiver().running() as receiver, TestClient(app, base_url="http://127.0.0.1") as client:
        made = client.post("/v1/webhooks", json={"url": receiver.url})
        assert made.status_code == 201
        half = table.num_rows // 2
        with serving(app) as url, listening(url, {}) as stream:
            send(host, table.slice(0, half))
            send(host, table.slice(half))
            offset = host.advance(table["event_time"][-1].as_py().date()).result(10).offset
            assert host.wait_taken(offset, 60) is not None
            count = host.findings.count()
            findings = (m for m in stream if m.event == "finding")  # not the heartbeats between
            streamed = [m.data["finding_id"] for m in islice(findings, count)]
        number = host.findings.last_number()
        pushed: list[str] = []
        with receiver.changed:
            assert receiver.changed.wait_for(
                lambda: sum(len(r.findings) for r in receiver.requests) >= number, 30
            )
            pushed = [one for request in receiver.requests for one in request.findings]
        yield host, client, streamed, pushed
    host.close()


def test_findings_are_those_of_batch_scoring_everywhere(told: Any, batch: Result) -> None:
    _, client, streamed, pushed = told
    fits(FindingsPage, client.get("/v1/findings"))
    rows = all_pages(client.get, "/v1/findings", "findings", limit=100, order="oldest")
    listed = [row["finding_id"] for row in rows]
    assert sorted(listed) == sorted(batch.findings["finding_id"].to_pylist())
    assert streamed == listed
    assert pushed == listed


def test_the_ranking_is_that_of_batch_scoring(told: Any, batch: Result) -> None:
    host, client, *_ = told
    host.refresh_ranking()
    page = fits(SellersPage, client.get("/v1/sellers", params={"limit": 1000}))
    expected = batch.sellers.slice(0, 1000)
    assert [row["enterprise_id"] for row in page["sellers"]] == expected[
        "enterprise_id"
    ].to_pylist()
    assert [row["score"] for row in page["sellers"]] == pytest.approx(expected["score"].to_pylist())
    first = page["sellers"][0]["enterprise_id"]
    fits(SellerDetail, client.get(f"/v1/sellers/{quote(first, safe='')}"))


def test_a_plan_is_that_of_batch_scoring(told: Any, batch: Result) -> None:
    _, client, *_ = told
    made = fits(Plan, client.post("/v1/sampling-plans", json={"budget": 25, "seed": 3}))
    expected = batch.plan(25, 3).to_pylist()
    for row in expected:
        row["due_date"] = row["due_date"].isoformat()
    for line, row in zip(made["lines"], expected, strict=True):
        for name in ("score", "value", "inclusion_probability"):
            assert line.pop(name) == pytest.approx(row.pop(name))
        assert line == row


def test_codes_and_the_graph_of_the_engine_fit_what_is_documented(
    told: Any, table: pa.Table, batch: Result
) -> None:
    _, client, *_ = told
    for code in dict.fromkeys(batch.findings["code"].drop_null().to_pylist()[:20]):
        path = fits(CodePath, client.get(f"/v1/codes/{quote(code, safe='')}"))
        assert path["path"]
        assert path["findings"]
    enterprise = batch.sellers["enterprise_id"][0].as_py()
    asked = {"enterprise": enterprise, "depth": 2, "limit": 50}
    graph = fits(Neighbourhood, client.get("/v1/graph", params=asked))
    assert enterprise in {node["enterprise_id"] for node in graph["nodes"]}
    assert graph["edges"]
    since = dt.date(2100, 1, 1).isoformat()
    later = client.get("/v1/graph", params={**asked, "since": since})
    assert fits(Neighbourhood, later)["edges"] == []

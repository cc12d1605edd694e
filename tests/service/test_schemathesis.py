"""Whatever fits the OpenAPI document, and much that does not: no server error, nothing undocumented.

``TRACE_ENGINE_API_EXAMPLES`` asks more than the few examples of ``make test`` of each operation.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import FailureGroup, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from tests.service import fakes
from tests.service.routes.serving import serving
from trace_engine.service.app import create_app
from trace_engine.service.host import EngineHost

EXAMPLES = int(os.environ.get("TRACE_ENGINE_API_EXAMPLES", "8"))
# It never ends; its answers are tested in routes/test_stream.py.
ENDLESS = "/v1/stream"
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


@schemathesis.serializer(
    "application/x-ndjson",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.arrow.file",
)
def as_bytes(ctx: Any, value: Any) -> bytes:
    """Send what was made for a body that is text or bytes to the schema."""
    if isinstance(value, bytes):
        return value
    return str(value).encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    given = fakes.settings(
        data=tmp_path_factory.mktemp("data"), future_days=9999, rate_per_key="1000000/second"
    )
    host = EngineHost.open(given)
    host.start()
    assert host.loop.started.wait(300)  # kernels may have to be compiled
    app = create_app(host, given)
    with fakes.client(app) as http:
        world(http)
        with serving(app) as url:
            yield app, url
    host.close()


def world(http: TestClient) -> None:
    """Send a little of everything, so that there is something to find."""
    sales = [
        {
            "event_id": f"s{n}-{k}", "event_time": f"2026-03-01 1{k}:00:00", "actor_id": f"S{k}",
            "event_type": "retail_sale", "code": f"8100001{n:013d}", "from_id": f"S{k}",
        }
        for n in range(5)
        for k in range(3)
    ]  # fmt: skip
    assert (
        http.post("/v1/events?wait=30&batch_id=B-1", json=[*sales, {"code": "1"}]).status_code
        == 200
    )
    assert (
        http.post("/v1/watermark?wait=30", json={"close_through": "2026-03-01"}).status_code == 200
    )
    assert http.get("/v1/sellers").status_code == 200


def test_every_operation_keeps_to_its_document(served: tuple[Any, str]) -> None:
    app, url = served
    schema = schemathesis.openapi.from_dict(app.openapi()).exclude(path=ENDLESS)
    asked: Counter[str] = Counter()
    faults: list[str] = []
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        for found in schema.get_all_operations():
            operation = found.ok()
            try:
                ask(url, operation, operation.as_strategy(generation_mode=mode), asked)
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE  # nothing can be wrong with no parameter
            except FailureGroup as failures:
                faults += [f"{operation.label}: {one}" for one in failures.exceptions]
    assert not faults, "\n\n".join(faults)
    assert len(asked) >= 28
    assert min(asked.values()) > 0


def ask(url: str, operation: Any, cases: Any, asked: Counter[str]) -> None:
    """Send cases of one operation and hold the answers to the document."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES < 100,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def run(case: schemathesis.Case) -> None:
        asked[operation.label] += 1
        case.call_and_validate(base_url=url, checks=list(CHECKS))

    run()

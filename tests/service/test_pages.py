"""Pages at a browser: whole without scripts, bilingual, nothing from elsewhere, nothing inline."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.testclient import TestClient

from tests.service.fakes import FakeHost, FakeKeys, client, settings
from trace_engine.service import status_page
from trace_engine.service.access import Role
from trace_engine.service.app import create_app
from trace_engine.service.problems import KINDS, rule_zh

STATIC = Path(status_page.__file__).parent / "static"
PAGES = ("/", "/docs", "/problems", "/problems/not-found")


def app_of(host: FakeHost, keys: FakeKeys | None = None) -> TestClient:
    app = create_app(host, settings(), keys=keys or FakeKeys(), audit=lambda _: None, routes=())
    return client(app)


@pytest.fixture
def c() -> Iterator[TestClient]:
    with app_of(FakeHost()) as c:
        yield c


class Parts(HTMLParser):
    """What of a page a content policy cares for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline: list[str] = []
        self._in: str = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.urls += [given[name] or "" for name in ("src", "href") if name in given]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self._in = tag if tag in ("script", "style") and "src" not in given else ""

    def handle_data(self, data: str) -> None:
        if self._in and data.strip():
            self.inline.append(self._in)


@pytest.mark.parametrize("path", PAGES)
def test_pages_obey_the_content_policy(c: TestClient, path: str) -> None:
    answer = c.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    parts = Parts(answer.text)
    assert parts.inline == []
    assert parts.urls
    for url in parts.urls:
        assert url.startswith("/")
        assert not url.startswith("//")
        assert c.get(url).status_code in ({200, 404} if url.startswith("/v1/") else {200})


def test_status_page_shows_the_numbers_without_scripts(c: TestClient) -> None:
    text = c.get("/").text
    for number in ("1,200", "1,100", "4,567", "2026-02-28", "2026-02-26", "8.0 MB"):
        assert number in text
    assert "运行正常" in text
    assert "未设密钥" in text
    assert re.search(r'data-state="failed" hidden', text)


def test_status_page_of_a_fresh_service_has_no_days() -> None:
    host = FakeHost(
        watermark=None, closed_through=None, checkpoint_at=None, checkpoint_seconds=None
    )
    with app_of(host) as c:
        assert "None" not in c.get("/").text
        assert c.get("/v1/status").json()["watermark"] is None
        assert "checkpoint_age" not in c.get("/metrics").text


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "ready"),
        ({"ready": False, "replaying": True}, "replaying"),
        ({"ready": False, "error": "RuntimeError in /secret/place"}, "failed"),
        ({"ready": False}, "stopping"),
        ({"problem": "findings cannot be stored: secret"}, "stalled"),
    ],
)
def test_state_is_told_without_its_cause(changes: dict[str, object], state: str) -> None:
    with app_of(FakeHost(**changes)) as c:
        assert c.get("/v1/status").json()["state"] == state
        ready = c.get("/readyz")
        assert ready.status_code == (200 if state in ("ready", "stalled") else 503)
        assert ready.json()["failed"] == (state == "failed")
        assert c.get("/healthz").status_code == 200
        for path in ("/", "/v1/status", "/readyz", "/metrics"):
            assert "secret" not in c.get(path).text


def test_script_asks_only_for_fields_that_the_status_has(c: TestClient) -> None:
    script = (STATIC / "status.js").read_text("utf-8")
    page = c.get("/").text
    known = c.get("/v1/status").json()
    fields = set(re.findall(r'data-field="(\w+)"', page)) - {"rate"}
    assert fields <= set(known) | set(known["counts"])
    for name in re.findall(r'"([a-z]+_[a-z_]+)"', script):
        assert name in known, name


def test_with_keys_the_page_asks_for_one_and_shows_nothing() -> None:
    keys = FakeKeys()
    reader, sender = keys.add(Role.READ), keys.add(Role.INGEST)
    with app_of(FakeHost(), keys) as c:
        answer = c.get("/")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert "1,200" not in answer.text
        assert "需要密钥" in answer.text
        assert "1,200" in c.get("/", auth=("me", reader)).text
        assert "未设密钥" not in c.get("/", auth=("me", reader)).text
        assert c.get("/", auth=("me", sender)).status_code == 403
        assert c.get("/metrics").status_code == 401
        assert c.get("/metrics", headers={"X-API-Key": reader}).status_code == 200
        assert c.get("/v1/status").status_code == 401
        for public in ("/healthz", "/readyz", "/docs", "/openapi.json", "/problems"):
            assert c.get(public).status_code == 200


def test_metrics_can_be_public() -> None:
    keys = FakeKeys()
    keys.add(Role.READ)
    app = create_app(
        FakeHost(), settings(public_metrics=True), keys=keys, audit=lambda _: None, routes=()
    )
    with client(app) as c:
        assert c.get("/metrics").status_code == 200


def test_every_kind_of_problem_has_a_page(c: TestClient) -> None:
    everything = c.get("/problems").text
    for name, kind in KINDS.items():
        page = c.get(f"/problems/{name}").text
        assert kind.title_zh in page
        assert kind.title_zh in everything
    assert c.get("/problems/never-heard-of").status_code == 404


def test_openapi_documents_problems(c: TestClient) -> None:
    document = c.get("/openapi.json").json()
    assert "Problem" in document["components"]["schemas"]
    answers = document["paths"]["/v1/status"]["get"]["responses"]
    assert "application/problem+json" in answers["401"]["content"]
    assert document["components"]["securitySchemes"].keys() == {"Bearer", "X-API-Key"}


def test_swagger_ui_is_the_file_that_its_readme_names() -> None:
    folder = STATIC / "swagger-ui"
    sums = re.findall(r"\| `(\S+)` \| `([0-9a-f]{64})` \|", (folder / "README.md").read_text())
    assert {name for name, _ in sums} == {p.name for p in folder.iterdir()} - {"README.md"}
    for name, digest in sums:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_static_files_do_not_lead_out_of_their_folder(c: TestClient) -> None:
    for path in (
        "/static/../status_page.py",
        "/static/%2e%2e/status_page.py",
        "/static/..%2fapp.py",
    ):
        assert c.get(path).status_code == 404
    first = c.get("/static/page.css")
    again = c.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_metrics_outlive_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    host.database.close()
    shutil.rmtree(host.database.path.parent)
    with app_of(host) as c:
        answer = c.get("/metrics")
        assert answer.status_code == 200
        assert "trace_engine_database_up 0.0" in answer.text


def test_metrics_tell_requests_by_route_and_the_engines_numbers(c: TestClient) -> None:
    c.get("/problems/not-found")
    c.get("/a/b/c")
    c.get("/a/b/d")
    text = c.get("/metrics").text
    count = "trace_engine_request_seconds_count"
    assert f'{count}{{method="GET",route="/problems/{{kind}}",status="200"}} 1.0' in text
    assert f'{count}{{method="GET",route="none",status="404"}} 2.0' in text
    for line in (
        "trace_engine_events_total 1100.0",
        "trace_engine_late_events_total 9.0",
        "trace_engine_journal_lag_records 2.0",
        "trace_engine_live_codes 4567.0",
        "trace_engine_archived_codes 89.0",
        "trace_engine_ready 1.0",
        "trace_engine_database_up 1.0",
        'trace_engine_webhook_deliveries{state="waiting"} 0.0',
    ):
        assert line in text
    day = (date(2026, 2, 28) - date(1970, 1, 1)).days * 86_400
    assert f"trace_engine_watermark_seconds {day / 1e9}e+09" in text
    assert "trace_engine_process_resident_memory_bytes" in text


def test_rules_in_chinese_name_the_limits_that_pydantic_names() -> None:
    """A limit of another name would leave the officer with English alone, unnoticed."""

    class Probe(BaseModel):
        model_config = ConfigDict(extra="forbid")

        text: str = Field(min_length=2, max_length=3, pattern="^a")
        other: str = Field(max_length=3)
        form: str = Field(pattern="^a")
        number: float = Field(gt=1, lt=5)
        whole: int = Field(ge=1, le=5)
        much: int = Field(le=5)
        high: float = Field(lt=5)
        some: list[int] = Field(min_length=1)
        few: list[int] = Field(max_length=1)
        one: Literal["a", "b"]

    with pytest.raises(ValidationError) as caught:
        Probe.model_validate(
            {
                "text": "a", "other": "aaaa", "form": "b", "number": 0, "whole": 0, "much": 9,
                "high": 9, "some": [], "few": [1, 2], "one": "c", "more": 1,
            }
        )  # fmt: skip
    errors = caught.value.errors()
    assert len(errors) == 11
    told = {str(e["loc"][0]): rule_zh(e["type"], e.get("ctx", {})) for e in errors}
    assert told == {
        "text": "至少 2 个字符", "other": "最多 3 个字符", "form": "格式不符，应匹配 ^a",
        "number": "应大于 1.0", "whole": "应不小于 1", "much": "应不大于 5", "high": "应小于 5.0",
        "some": "至少 1 项", "few": "最多 1 项", "one": "应为以下之一：'a'、'b'",
        "more": "没有此项，请核对名称",
    }  # fmt: skip
    assert rule_zh("a_rule_of_tomorrow", {}) == ""
    assert rule_zh("less_than", {"other": 1}) == ""


def test_script_asks_where_the_key_stands_in_the_address_too() -> None:
    """Browsers refuse to fetch relative addresses of a page opened as http://x:KEY@host/."""
    script = (Path(status_page.__file__).parent / "static" / "status.js").read_text("utf-8")
    asked = re.findall(r"fetch\((.)([^,]*?)\1,", script)
    assert asked == [("`", "${location.origin}/v1/status")]

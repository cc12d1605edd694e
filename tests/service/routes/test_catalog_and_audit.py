from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

import trace_engine
from tests.service.routes.answers import all_pages, fits, lines, problem, sheet
from tests.service.routes.conftest import Api
from trace_engine.detectors.registry import detector_classes
from trace_engine.events.findings import REJECTS
from trace_engine.service.routes.audit import ACTIONS, AuditPage
from trace_engine.service.routes.catalog import Catalogue, RejectsPage
from trace_engine.store.audit import AuditLog
from trace_engine.store.rejects import RejectStore


def test_the_catalogue_holds_every_detector_in_both_languages(api: Api) -> None:
    answer = api.get("/v1/detectors")
    catalogue = fits(Catalogue, answer)
    cards = {card["id"]: card for card in catalogue["detectors"]}
    assert set(cards) == set(detector_classes())
    card = cards["repeated_transfer"]
    hops = next(one for one in card["parameters"] if one["name"] == "max_hops")
    assert (card["title_zh"], card["title_en"]) == ("多次倒手", "Repeated transfer")
    assert hops["description"]
    assert hops["description_zh"]
    assert hops["source"]
    tag = {"If-None-Match": answer.headers["etag"]}
    assert api.get("/v1/detectors", headers=tag).status_code == 304


def rejects(api: Api, offset: int, reason: str, rows: int) -> None:
    table = pa.Table.from_pylist(
        [
            {"file": None, "row": i + 1, "column": "code", "reason": reason, "detail": "found ''",
             "raw": '{"code":""}'}
            for i in range(rows)
        ],
        schema=REJECTS,
    )  # fmt: skip
    RejectStore(api.world.database).add(table, offset)


def test_rejects_in_pages_by_request_and_reason(api: Api) -> None:
    rejects(api, 5, "missing_code", 3)
    rejects(api, 9, "bad_time", 2)
    fits(RejectsPage, api.get("/v1/rejects"))
    rows = all_pages(api.get, "/v1/rejects", "rejects", limit=2)
    assert [(row["offset"], row["row"]) for row in rows] == [(9, 2), (9, 1), (5, 3), (5, 2), (5, 1)]
    of_5 = api.get("/v1/rejects", params={"offset": 5}).json()["rejects"]
    assert {row["reason"] for row in of_5} == {"missing_code"}
    bad = api.get("/v1/rejects", params={"reason": "bad_time"}).json()["rejects"]
    assert [row["offset"] for row in bad] == [9, 9]
    assert lines(api.get("/v1/rejects", headers={"Accept": "application/x-ndjson"})) == rows
    assert len(sheet(api.get("/v1/rejects", headers={"Accept": "text/csv"}))) == 5
    rejects(api, 11, "event_id_conflict", 1)
    sources = {row["offset"]: row["source"] for row in api.get("/v1/rejects").json()["rejects"]}
    assert sources == {5: "door", 9: "door", 11: "engine"}


def test_the_audit_log_is_for_administrators(api: Api) -> None:
    log = AuditLog(api.world.database)
    at = dt.datetime(2026, 3, 5, 1, tzinfo=dt.UTC)
    for i in range(5):
        log.add(
            [
                {"at": at + dt.timedelta(days=i), "key_id": f"k{i % 2}", "name": "desk",
                 "address": "10.0.0.7", "request_id": f"r{i}", "action": "seller.read",
                 "subject": f"S{i}", "details": {"found": i}}
            ]
        )  # fmt: skip
    for key in (api.reader, api.officer, api.sender):
        problem(api.client.get("/v1/audit", headers=key), 403, "forbidden")

    def get(path: str, **more: object) -> object:
        headers = api.admin | more.pop("headers", {})  # type: ignore[operator]
        return api.client.get(path, headers=headers, **more)  # type: ignore[arg-type]

    fits(AuditPage, get("/v1/audit"))
    rows = all_pages(get, "/v1/audit", "entries", limit=2)
    assert [row["subject"] for row in rows] == ["S4", "S3", "S2", "S1", "S0"]
    assert rows[0]["details"] == {"found": 4}
    assert rows[0]["at"] == "2026-03-09T09:00:00+08:00"
    mine = all_pages(get, "/v1/audit", "entries", key_id="k1", since="2026-03-07")
    assert [row["subject"] for row in mine] == ["S3"]
    until = all_pages(get, "/v1/audit", "entries", until="2026-03-06")
    assert [row["subject"] for row in until] == ["S1", "S0"]
    assert api.noted("audit.list")["name"] == "administrator"


def test_an_action_that_there_is_not_is_named(api: Api) -> None:
    AuditLog(api.world.database).add(
        [
            {"at": dt.datetime(2026, 3, 5, tzinfo=dt.UTC), "action": action, "subject": "S1"}
            for action in ("seller.read", "seller.praise")
        ]
    )

    def get(action: str) -> Any:
        return api.client.get("/v1/audit", params={"action": action}, headers=api.admin)

    told = problem(get("seller.raed"), 422, "invalid")
    assert told["errors"][0]["where"] == "query.action"
    assert "seller.read" in told["detail"]
    assert "seller.read" in told["detail_zh"]
    assert "webhook.retry" in problem(get("x"), 422, "invalid")["detail_zh"]
    for known, rows in (("seller.read", 1), ("plan.make", 0), ("seller.praise", 1)):
        assert len(fits(AuditPage, get(known))["entries"]) == rows


def test_all_actions_that_the_package_notes_are_known() -> None:
    folder = Path(trace_engine.__file__).parent
    things = "|".join({action.partition(".")[0] for action in ACTIONS})
    said = {
        found
        for part in ("service", "cli")
        for source in (folder / part).rglob("*.py")
        for found in re.findall(rf'"((?:{things})\.[a-z]+)"', source.read_text())
    }
    assert said == set(ACTIONS)
    noted = {
        found
        for source in (folder / "service").rglob("*.py")
        for found in re.findall(r'record\(\s*request,\s*"([^"]+)"', source.read_text())
    }
    assert noted <= set(ACTIONS)

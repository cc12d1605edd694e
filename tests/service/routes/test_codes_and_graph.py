from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tests.service.routes.answers import fits, problem
from tests.service.routes.conftest import Api
from tests.service.routes.worlds import finding
from trace_engine.service.routes.codes import CodePath
from trace_engine.service.routes.graph import Neighbourhood
from trace_engine.store.audit import AuditLog

CODE = "81234560000000000017"
GS1 = "(01)06901234567892(21)AB/1?x"


def path_of(code: str) -> dict[str, Any]:
    example = CodePath.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index,call-overload]
    found: dict[str, Any] = {**example, "code": code}
    del found["findings"]
    return found


WRITTEN: list[Any] = [
    (CODE, CODE),
    (CODE, f"  {CODE}\t"),
    (CODE, "8123 4560 0000 0000 0017"),
    (CODE, CODE.translate({n: n + 0xFEE0 for n in range(0x30, 0x3A)})),
    (CODE, f'="{CODE}"'),
    (GS1, GS1),
    (GS1, "010690123456789221AB/1?x"),
    (GS1, "]d20106901234567892\x1d21AB/1?x"),
]


def test_a_code_is_found_however_it_is_written(api: Api) -> None:
    for code in (CODE, GS1):
        api.world.paths[code] = path_of(code)
    for known, typed in WRITTEN:
        answer = fits(CodePath, api.get(f"/v1/codes/{quote(typed, safe='')}"))
        assert answer["code"] == known
    assert [event["event_id"] for event in answer["path"]] == ["e-1"]
    assert api.noted("code.read")["details"] == {"known": True}


def test_a_code_tells_what_was_found_about_it(api: Api) -> None:
    api.world.paths[CODE] = path_of(CODE)
    api.world.store(finding(1, code="x", codes=["x", CODE]), finding(2))
    answer = fits(CodePath, api.get(f"/v1/codes/{CODE}"))
    assert [row["finding_id"] for row in answer["findings"]] == ["f000001"]
    assert api.get(f"/v1/codes/{CODE}", params={"findings": 0}).json()["findings"] == []


def test_an_unknown_code_is_a_problem(api: Api) -> None:
    assert problem(api.get(f"/v1/codes/{CODE}"), 404, "not-found")["detail_zh"]
    assert api.noted("code.read")["details"] == {"known": False}
    problem(api.get(f"/v1/codes/{quote(chr(0), safe='')}"), 422, "invalid")
    problem(api.client.get(f"/v1/codes/{CODE}"), 401, "unauthenticated")


def test_the_audit_log_holds_no_number_of_an_identity_card(api: Api) -> None:
    card = "11010519491231002X"
    noted = api.world.encoder.pseudonyms.of(card)
    api.get(f"/v1/codes/{card}")
    assert api.noted("code.read")["subject"] == noted
    api.get("/v1/findings", params={"subject_id": card})
    assert api.noted("finding.list")["subject"] == noted
    api.client.get("/v1/audit", params={"subject": card}, headers=api.admin)
    assert card not in str(api.noted("audit.list"))
    # Who looks for the number finds what was noted of it.
    entry = {"at": datetime(2026, 3, 5, tzinfo=UTC), "action": "code.read", "subject": noted}
    AuditLog(api.world.database).add([entry])
    found = api.client.get("/v1/audit", params={"subject": card}, headers=api.admin).json()
    assert [entry["subject"] for entry in found["entries"]] == [noted]


def graph_of() -> dict[str, Any]:
    found: dict[str, Any] = Neighbourhood.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index,call-overload]
    return {**found, "enterprise_id": "S1"}


def test_the_neighbourhood_as_json_and_graphml(api: Api) -> None:
    api.world.graphs["S1"] = graph = graph_of()
    graph["nodes"][0]["name"] = "<甲> & \x0b乙"
    asked = {"enterprise": "S1", "depth": 2, "drug": "8123456", "since": "2026-03-01"}
    assert fits(Neighbourhood, api.get("/v1/graph", params=asked)) == graph
    assert api.noted("graph.read")["subject"] == "S1"
    drawn = api.get("/v1/graph", params=asked, headers={"Accept": "application/graphml+xml"})
    assert drawn.headers["content-type"].startswith("application/graphml+xml")
    root = ET.fromstring(drawn.content)
    name = "{http://graphml.graphdrawing.org/xmlns}"
    assert {node.get("id") for node in root.iter(f"{name}node")} == {"91370100MA3C0X0X0X", "P1"}
    (edge,) = root.iter(f"{name}edge")
    assert (edge.get("source"), edge.get("target")) == ("91370100MA3C0X0X0X", "P1")
    assert "<甲> & 乙" in [data.text for data in root.iter(f"{name}data")]


UNANSWERABLE: list[Any] = [
    {},
    {"enterprise": "S1", "depth": 0},
    {"enterprise": "S1", "depth": 99},
    {"enterprise": "S1", "since": "2026-03-02", "until": "2026-03-01"},
    {"enterprise": "S1", "since": "0001-01-01"},
    {"enterprise": "S1", "limit": 0},
]


def test_questions_about_the_graph_that_cannot_be_answered(api: Api) -> None:
    for query in UNANSWERABLE:
        problem(api.get("/v1/graph", params=query), 422, "invalid")


def test_an_enterprise_nobody_names_is_a_problem(api: Api) -> None:
    problem(api.get("/v1/graph", params={"enterprise": "nobody"}), 404, "not-found")

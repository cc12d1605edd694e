from __future__ import annotations

import datetime as dt
from typing import Any

from tests.service.routes.answers import all_pages, fits, lines, problem, sheet
from tests.service.routes.conftest import Api
from tests.service.routes.worlds import finding
from trace_engine.events.findings import FINDINGS
from trace_engine.service.routes._shapes import Finding
from trace_engine.service.routes.findings import FindingsPage

LIST = "/v1/findings"


def ids(answer: Any) -> list[str]:
    return [row["finding_id"] for row in answer.json()["findings"]]


def test_a_finding_is_told_with_all_columns_and_its_evidence_as_an_object(api: Api) -> None:
    (number,) = api.world.store(finding(1), late=True)
    page = fits(FindingsPage, api.get(LIST))
    (row,) = page["findings"]
    assert set(row) == {*FINDINGS.names, "number", "late", "revision"}
    assert (row["number"], row["late"], row["revision"]) == (number, True, 0)
    assert row["evidence"] == {"path": [{"event_id": "e1"}], "hops": 6}
    assert row["event_time"] == "2026-03-01T10:00:00+08:00"
    assert page["last_number"] == number
    assert page["next_cursor"] is None
    assert fits(Finding, api.get(f"{LIST}/f000001")) == row


def test_looking_is_noted(api: Api) -> None:
    api.world.store(finding(1))
    api.get(LIST, params={"subject_id": "S1"})
    note = api.noted("finding.list")
    assert (note["name"], note["subject"], note["details"]["found"]) == ("reader", "S1", 1)
    api.get(f"{LIST}/f000001")
    assert api.noted("finding.read")["subject"] == "f000001"


def test_pages_hold_every_finding_once_in_both_orders(api: Api) -> None:
    api.world.store(*(finding(i) for i in range(23)))
    for order, expected in (("newest", range(22, -1, -1)), ("oldest", range(23))):
        rows = all_pages(api.get, LIST, "findings", limit=5, order=order)
        assert [row["finding_id"] for row in rows] == [f"f{i:06d}" for i in expected]


def test_findings_that_come_while_paging_oldest_first_are_seen(api: Api) -> None:
    api.world.store(*(finding(i) for i in range(4)))
    first = api.get(LIST, params={"limit": 3, "order": "oldest"})
    api.world.store(finding(4), finding(0, code_count=2, event_ids=["e77"]))
    cursor = first.json()["next_cursor"]
    rest = api.get(LIST, params={"limit": 3, "order": "oldest", "cursor": cursor})
    assert ids(rest) == ["f000003", "f000004", "f000000"]
    assert rest.json()["findings"][-1]["revision"] == 1


FILTERS: list[Any] = [
    ({"detector": "reverse_flow"}, [1]),
    ({"detector": ["reverse_flow", "repeated_transfer"]}, [0, 1, 2, 3]),
    ({"family": "data_quality"}, [2]),
    ({"severity_min": 0.9}, [3]),
    ({"subject_id": "X"}, [3]),
    ({"drug_id": "8999999"}, [1]),
    ({"batch_no": "B9"}, [2]),
    ({"code": " 81234560000000000003 "}, [3]),
    ({"code": "8123 4560 0000 0000 0003"}, [3]),
    ({"region": "44"}, [1, 2]),
    ({"region": "440000"}, [1, 2]),
    ({"region": "440100"}, [1]),
    ({"region": "440103"}, [1]),
    ({"region": "440200"}, [2]),
    ({"since": "2026-03-01T11:00:00"}, [2, 3]),
    ({"since": "2026-03-01T03:00:00Z", "until": "2026-03-01T12:00:00+08:00"}, [2]),
    ({"until": "2026-03-01"}, [0, 1, 2, 3]),
    ({"since": "2026-03-02"}, []),
    ({"jurisdiction": "省局"}, [2]),
]


def test_a_code_may_hold_the_separator_of_gs1_and_no_other_control(api: Api) -> None:
    assert api.get(LIST, params={"code": "0106901234567892\x1d21ABC"}).status_code == 200
    for control in "\x00\x1b\n\x7f":
        problem(api.get(LIST, params={"code": f"81000000{control}"}), 422, "invalid")


def test_filters(api: Api) -> None:
    api.world.store(
        finding(0),
        finding(1, detector="reverse_flow", drug_id="8999999", region="440103"),
        finding(2, family="data_quality", batch_no="B9", region="440203", jurisdiction="省局"),
        finding(3, severity=0.95, subject_id="X"),
    )
    for query, expected in FILTERS:
        found = ids(api.get(LIST, params=query | {"order": "oldest"}))
        assert found == [f"f{i:06d}" for i in expected], query
    api.world.store(finding(4), late=True)
    assert ids(api.get(LIST, params={"late": True})) == ["f000004"]
    assert len(ids(api.get(LIST, params={"late": False}))) == 4


def test_a_detector_that_there_is_not_is_named(api: Api) -> None:
    api.world.store(finding(0), finding(1, detector="of_last_year"))
    for path in (LIST, "/v1/stream"):
        query = {"detector": ["repeated_transfer", "repeated_transfers", "zzz"]}
        told = problem(api.get(path, params=query), 422, "invalid")
        first, second = told["errors"]
        assert first["where"] == second["where"] == "query.detector"
        assert "repeated_transfers; is repeated_transfer meant?" in first["what"]
        assert "是否指 repeated_transfer" in told["detail_zh"]
        assert "zzz; GET /v1/detectors" in second["what"]
    # One that left the catalogue may still have findings.
    assert ids(api.get(LIST, params={"detector": "of_last_year"})) == ["f000001"]
    assert ids(api.get(LIST, params={"detector": "reverse_flow"})) == []


UNUSABLE: list[Any] = [
    {"limit": 0},
    {"limit": 1001},
    {"severity_min": 2},
    {"severity_min": "nan"},
    {"region": "3"},
    {"region": "3x"},
    {"order": "random"},
    {"since": "soon"},
    {"since": "0001-01-01"},
    {"until": "9999-12-31"},
    {"since": "2026-03-02", "until": "2026-03-01"},
    {"subject_id": "a\x00b"},
    {"family": "x"},
    {"detector": "'; drop table finding"},
    {"limit": 10**40},
]


def test_values_that_cannot_be_used_are_named(api: Api) -> None:
    for query in UNUSABLE:
        body = problem(api.get(LIST, params=query), 422, "invalid")
        assert body["errors"][0]["where"].split(".")[1] in query


def test_a_cursor_is_of_its_filters_and_order_alone(api: Api) -> None:
    api.world.store(*(finding(i) for i in range(3)))
    cursor = api.get(LIST, params={"limit": 1}).json()["next_cursor"]
    for query in (
        {"cursor": cursor, "order": "oldest"},
        {"cursor": cursor, "subject_id": "S1"},
        {"cursor": cursor[:-2] + ("AA" if not cursor.endswith("AA") else "BB")},
        {"cursor": "x"},
        {"cursor": "游标"},
        {"cursor": "AAAA"},
    ):
        assert problem(api.get(LIST, params=query), 400, "bad-request")["detail_zh"]


def test_ndjson_and_csv_hold_the_same_rows_and_lead_to_the_next_page(api: Api) -> None:
    api.world.store(*(finding(i) for i in range(5)))
    asked = {"limit": 2, "order": "oldest"}
    page = api.get(LIST, params=asked)
    plain = api.get(LIST, params=asked, headers={"Accept": "application/x-ndjson"})
    table = api.get(LIST, params=asked, headers={"Accept": "text/csv"})
    assert lines(plain) == page.json()["findings"]
    assert [row["finding_id"] for row in sheet(table)] == ids(page)
    for answer in (page, plain, table):
        assert answer.headers["x-next-cursor"] == page.json()["next_cursor"]
        assert answer.headers["vary"] == "Accept"
    path = plain.headers["link"].removeprefix("<").partition(">")[0]
    second = api.get(path, headers={"Accept": "application/x-ndjson"})
    assert [row["finding_id"] for row in lines(second)] == ["f000002", "f000003"]


def test_csv_is_safe_for_spreadsheets_and_has_a_head_without_rows(api: Api) -> None:
    empty = sheet_head = api.get(LIST, headers={"Accept": "text/csv"})
    assert sheet(empty) == []
    head = sheet_head.content.decode("utf-8-sig").strip().split(",")
    assert head == [*FINDINGS.names, "number", "late", "revision"]
    api.world.store(finding(1, subject_id='=HYPERLINK("http://x")', bill_code="+1", amount=-2.5))
    (row,) = sheet(api.get(LIST, headers={"Accept": "text/csv"}))
    assert row["subject_id"] == '\'=HYPERLINK("http://x")'
    assert row["bill_code"] == "'+1"
    assert row["amount"] == "-2.5"
    assert row["evidence"] == '{"path":[{"event_id":"e1"}],"hops":6}'


ACCEPTED: list[Any] = [
    ("*/*", "application/json"),
    ("text/*", "text/csv"),
    ("text/csv;q=0.5, application/json", "application/json"),
    ("application/json;q=0.1, application/x-ndjson;q=0.2", "application/x-ndjson"),
    ("text/html, application/xml;q=0.9, */*;q=0.8", "application/json"),
    ("application/json;q=0, */*", "application/x-ndjson"),
    ("application/json;q=x, text/csv", "text/csv"),
]


def test_the_form_is_what_accept_likes_best(api: Api) -> None:
    for accept, media in ACCEPTED:
        answer = api.get(LIST, headers={"Accept": accept})
        assert answer.headers["content-type"].partition(";")[0] == media, accept


def test_a_form_there_is_none_of_is_refused(api: Api) -> None:
    problem(api.get(LIST, headers={"Accept": "image/png"}), 406, "not-acceptable")


def test_an_unknown_finding_is_a_problem(api: Api) -> None:
    assert problem(api.get(f"{LIST}/nothing"), 404, "not-found")["detail_zh"]
    problem(api.get(f"{LIST}/{'x' * 200}"), 422, "invalid")


def test_who_may_not_read_does_not(api: Api) -> None:
    problem(api.client.get(LIST), 401, "unauthenticated")
    problem(api.client.get(LIST, headers=api.sender), 403, "forbidden")
    for key in (api.reader, api.officer, api.admin):
        assert api.client.get(LIST, headers=key).status_code == 200


def test_days_are_those_of_shanghai(api: Api) -> None:
    zone = dt.timezone(dt.timedelta(hours=8))
    api.world.store(
        finding(1, event_time=dt.datetime(2026, 3, 5, 0, 0, tzinfo=zone)),
        finding(2, event_time=dt.datetime(2026, 3, 5, 23, 59, 59, tzinfo=zone)),
        finding(3, event_time=dt.datetime(2026, 3, 6, 0, 0, tzinfo=zone)),
    )
    day = {"since": "2026-03-05", "until": "2026-03-05", "order": "oldest"}
    assert ids(api.get(LIST, params=day)) == ["f000001", "f000002"]

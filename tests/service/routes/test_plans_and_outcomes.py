from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from tests.service.routes.answers import all_pages, fits, lines, problem, sheet
from tests.service.routes.conftest import Api
from tests.service.routes.worlds import finding
from trace_engine.sampling import SAMPLING_PLAN
from trace_engine.service.routes._shapes import SHANGHAI
from trace_engine.service.routes.outcomes import OutcomesPage, OutcomesTaken
from trace_engine.service.routes.plans import Plan, PlanLine, PlansPage

DAYS = [dt.timedelta(days=n) for n in range(40)]
PLANS, OUTCOMES = "/v1/sampling-plans", "/v1/outcomes"


@pytest.fixture
def found(api: Api) -> Api:
    api.world.store(*(finding(i, severity=0.9) for i in range(9)))
    return api


def ask(api: Api, **body: Any) -> Any:
    return api.client.post(PLANS, json=body, headers=api.officer)


def test_a_plan_is_what_the_host_plans_and_is_kept(found: Api) -> None:
    answer = ask(found, budget=10, seed=7, as_of="2026-04-01")
    assert answer.status_code == 201
    made = fits(Plan, answer)

    table = found.world.plan(10, 7, dt.date(2026, 4, 1))
    assert [row["enterprise_id"] for row in made["lines"]] == table["enterprise_id"].to_pylist()
    assert [row["value"] for row in made["lines"]] == table["value"].to_pylist()
    assert (made["samples"], made["made_by"], made["seed"]) == (table.num_rows, "case desk", 7)
    assert list(PlanLine.model_fields) == SAMPLING_PLAN.names
    found.world.store(finding(99, severity=1.0))
    found.world.ranked = None
    assert found.get(answer.headers["location"]).json() == made
    note = found.noted("plan.make")
    assert (note["subject"], note["details"]["budget"]) == (made["plan_id"], 10)


def test_a_plan_is_not_for_days_to_come(found: Api) -> None:
    tomorrow = dt.datetime.now(SHANGHAI).date() + dt.timedelta(days=1)
    found.world.watermark = None
    assert ask(found, budget=1, as_of=f"{tomorrow - dt.timedelta(days=1)}").status_code == 201
    # Two days on: the day may change in Shanghai while the test runs.
    told = problem(ask(found, budget=1, as_of=f"{tomorrow + DAYS[2]}"), 422, "invalid")
    assert told["errors"][0]["where"] == "body.as_of"
    assert "日期在未来" in told["detail_zh"]
    # Unless the data are of those days.
    found.world.watermark = tomorrow + DAYS[30]
    assert ask(found, budget=1, as_of=f"{tomorrow + DAYS[31]}").status_code == 201
    problem(ask(found, budget=1, as_of=f"{tomorrow + DAYS[32]}"), 422, "invalid")


def test_a_plan_as_a_spreadsheet(found: Api) -> None:
    made = found.client.post(
        PLANS, json={"budget": 5}, headers=found.officer | {"Accept": "text/csv"}
    )
    assert made.status_code == 201
    rows = sheet(made)
    assert list(rows[0]) == SAMPLING_PLAN.names
    kept = found.get(made.headers["location"], headers={"Accept": "text/csv"})
    assert kept.content == made.content
    assert made.headers["location"].endswith(made.headers["x-plan-id"])


def test_the_list_of_plans(found: Api) -> None:
    ids = [ask(found, budget=1, seed=i).json()["plan_id"] for i in range(5)]
    fits(PlansPage, found.get(PLANS))
    listed = all_pages(found.get, PLANS, "plans", limit=2)
    assert [row["plan_id"] for row in listed] == ids[::-1]


NO_PLANS: list[Any] = [
    {},
    {"budget": -1},
    {"budget": 10**9},
    {"budget": 1.5},
    {"budget": True},
    {"budget": "1"},
    {"budget": 1, "seed": -1},
    {"budget": 1, "seed": 2**63},
    {"budget": 1, "as_of": "9999-12-31"},
    {"budget": 1, "unknown": True},
]


def test_a_plan_that_cannot_be_made(found: Api) -> None:
    for body in NO_PLANS:
        problem(ask(found, **body), 422, "invalid")


def test_plans_wait_for_the_engine_and_for_officers(found: Api) -> None:
    found.world.ready = False
    answer = ask(found, budget=1)
    problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    body = {"budget": 1}
    problem(found.client.post(PLANS, json=body, headers=found.reader), 403, "forbidden")
    problem(found.get(f"{PLANS}/plan-0"), 404, "not-found")


def outcome(i: int, **other: Any) -> dict[str, Any]:
    return {"enterprise_id": f"S{i}", "date": "2026-04-02", "outcome": "violation"} | other


def send(api: Api, body: Any) -> Any:
    # Escaped, as half a surrogate pair cannot be written in UTF-8.
    headers = api.officer | {"Content-Type": "application/json"}
    return api.client.post(OUTCOMES, content=json.dumps(body), headers=headers)


def test_outcomes_one_or_many_are_kept_once(api: Api) -> None:
    api.world.store(finding(1))
    full = outcome(
        1, outcome_id="o-1", kind="on_site", drug_id="8123456", inclusion_probability=0.25,
        finding_id="f000001", plan_id="plan-1", note="第一批\n复检",
    )  # fmt: skip
    answer = send(api, full)
    assert answer.status_code == 201
    assert fits(OutcomesTaken, answer) == {"outcome_ids": ["o-1"], "added": 1, "repeated": 0}
    assert send(api, full).json() == {"outcome_ids": ["o-1"], "added": 0, "repeated": 1}
    many = [outcome(2, outcome="clean"), outcome(3)]
    first = send(api, many).json()
    assert (first["added"], len(set(first["outcome_ids"]))) == (2, 2)
    again = send(api, {"outcomes": [*many, outcome(3, note="another")]}).json()
    assert (again["added"], again["repeated"]) == (1, 2)
    assert again["outcome_ids"][:2] == first["outcome_ids"]
    page = fits(OutcomesPage, api.get(OUTCOMES))
    assert [row["enterprise_id"] for row in page["outcomes"]] == ["S3", "S3", "S2", "S1"]
    assert {name: page["outcomes"][-1][name] for name in full} == full
    assert api.noted("outcome.add")["name"] == "case desk"


def test_an_outcome_told_differently_changes_nothing(api: Api) -> None:
    send(api, outcome(1, outcome_id="o-1"))
    answer = send(
        api, [outcome(2, outcome_id="o-2"), outcome(1, outcome_id="o-1", outcome="clean")]
    )
    assert problem(answer, 409, "conflict")["outcome_ids"] == ["o-1"]
    twice = [outcome(4, outcome_id="o-4"), outcome(5, outcome_id="o-4")]
    assert problem(send(api, twice), 409, "conflict")["outcome_ids"] == ["o-4"]
    assert len(api.get(OUTCOMES).json()["outcomes"]) == 1


FORMS: list[Any] = [
    (lambda one: one, "body.outcome"),
    (lambda one: [outcome(1), one], "body.list.1"),
    (lambda one: {"outcomes": [outcome(1), one]}, "body.outcomes.outcomes.1"),
]


@pytest.mark.parametrize(("form", "where"), FORMS)
def test_outcomes_of_days_to_come_are_refused(api: Api, form: Any, where: str) -> None:
    tomorrow = dt.datetime.now(SHANGHAI).date() + DAYS[1]
    told = problem(send(api, form(outcome(2, date=f"{tomorrow + DAYS[2]}"))), 422, "invalid")
    (error,) = told["errors"]
    assert error["where"] == f"{where}.date"
    assert "日期在未来" in error["what_zh"]
    assert api.get(OUTCOMES).json()["outcomes"] == []
    assert send(api, form(outcome(2, date=f"{tomorrow}"))).status_code == 201
    api.world.watermark = tomorrow + DAYS[30]
    assert send(api, form(outcome(2, date=f"{tomorrow + DAYS[31]}"))).status_code == 201


@pytest.mark.parametrize(("form", "where"), FORMS)
def test_outcomes_of_findings_that_there_are_not_are_refused(
    found: Api, form: Any, where: str
) -> None:
    told = problem(send(found, form(outcome(2, finding_id="f-none"))), 422, "invalid")
    (error,) = told["errors"]
    assert error["where"] == f"{where}.finding_id"
    assert "f-none" in error["what"]
    assert "f-none" in error["what_zh"]
    assert found.get(OUTCOMES).json()["outcomes"] == []
    assert send(found, form(outcome(2, finding_id="f000002"))).status_code == 201


def test_all_findings_of_a_large_request_are_looked_up(found: Api) -> None:
    good = [outcome(i, finding_id=f"f00000{i % 9}") for i in range(4_900)]
    bad = [outcome(i, finding_id=f"none-{i}") for i in range(100)]
    told = problem(send(found, [*good, *bad]), 422, "invalid")
    assert len(told["errors"]) == 50
    assert "99 more" in told["detail"]
    assert send(found, good).json()["added"] == 4_900


NO_OUTCOMES: list[Any] = [
    [],
    {},
    {"outcomes": []},
    outcome(1, outcome="guilty"),
    outcome(1, date="soon"),
    outcome(1, date="1800-01-01"),
    outcome(1, inclusion_probability=0),
    outcome(1, inclusion_probability=True),
    outcome(1, inclusion_probability=1.01),
    outcome(1, enterprise_id=""),
    outcome(1, enterprise_id="a\x00"),
    outcome(1, note="x" * 2001),
    outcome(1, extra=1),
    [outcome(1), {"outcome": "clean"}],
    {"enterprise_id": "\ud800", "date": "2026-04-02", "outcome": "clean"},
    "text",
    None,
]


def test_outcomes_that_cannot_be_used(api: Api) -> None:
    for body in NO_OUTCOMES:
        problem(send(api, body), 422, "invalid")
    assert api.get(OUTCOMES).json()["outcomes"] == []


def test_outcomes_in_pages_and_other_forms(api: Api) -> None:
    send(api, [outcome(i % 3, outcome_id=f"o-{i}", note="=1+1") for i in range(7)])
    rows = all_pages(api.get, OUTCOMES, "outcomes", limit=2)
    assert [row["outcome_id"] for row in rows] == [f"o-{i}" for i in range(6, -1, -1)]
    mine = all_pages(api.get, OUTCOMES, "outcomes", limit=1, enterprise_id="S1")
    assert [row["outcome_id"] for row in mine] == ["o-4", "o-1"]
    assert lines(api.get(OUTCOMES, headers={"Accept": "application/x-ndjson"})) == rows
    assert sheet(api.get(OUTCOMES, headers={"Accept": "text/csv"}))[0]["note"] == "'=1+1"
    problem(api.client.post(OUTCOMES, json=outcome(1), headers=api.reader), 403, "forbidden")


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ([{"enterprise_id": "Q1", "date": "2026-04-02", "outcome": "maybe"}], "list.0.outcome"),
        (
            {"outcomes": [{"enterprise_id": "Q1", "date": "2026-04-02", "outcome": "maybe"}]},
            "outcomes.outcomes.0.outcome",
        ),
        ({"enterprise_id": "Q1", "date": "2026-04-02", "outcome": "maybe"}, "outcome.outcome"),
    ],
)
def test_errors_are_told_of_the_form_that_was_sent(api: Api, body: Any, wrong: str) -> None:
    answer = api.client.post(OUTCOMES, json=body, headers=api.officer)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["where"] == f"body.{wrong}"
    assert error["what_zh"] == "应为以下之一：'violation'、'clean'"


@pytest.mark.parametrize("body", [None, 1, "text", [1]])
def test_what_is_no_outcome_is_refused_in_one_line(api: Api, body: Any) -> None:
    answer = api.client.post(OUTCOMES, json=body, headers=api.officer)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 1


@pytest.mark.parametrize(
    ("budget", "chinese"),
    [(-1, "应不小于 0"), (1.5, "应为整数"), (None, "应为整数")],
)
def test_a_wrong_budget_is_told_in_chinese(api: Api, budget: Any, chinese: str) -> None:
    (error,) = ask(api, budget=budget).json()["errors"]
    assert error["where"] == "body.budget"
    assert error["what_zh"] == chinese

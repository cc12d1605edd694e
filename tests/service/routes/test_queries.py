"""Every address below ``/v1`` takes the query parameters it has, and no others."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.service.routes.answers import problem
from tests.service.routes.conftest import Api
from tests.service.routes.worlds import finding


def operations(api: Api) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Return (method, address with its places filled, query parameters) of everything checked."""
    document: dict[str, Any] = api.client.app.openapi()  # type: ignore[attr-defined]
    return [
        (
            method.upper(),
            re.sub(r"{[a-z_]+}", "1", path),
            [one for one in operation.get("parameters", ()) if one["in"] == "query"],
        )
        for path, operations in document["paths"].items()
        if path.startswith("/v1/")
        for method, operation in operations.items()
    ]


def test_no_address_ignores_a_parameter_it_does_not_know(api: Api) -> None:
    asked = operations(api)
    assert len(asked) >= 22
    for method, address, parameters in asked:
        answer = api.client.request(method, f"{address}?sevrity=high", headers=api.admin)
        told = problem(answer, 422, "invalid")
        known = sorted(parameter["name"] for parameter in parameters)
        assert told["known_parameters"] == known, address
        assert all(name in told["detail"] and name in told["detail_zh"] for name in known)
        assert "sevrity" in told["detail"]
        assert "sevrity" in told["detail_zh"]
        (error,) = told["errors"]
        assert (error["where"], error["rule"]) == ("query.sevrity", "extra_forbidden")


def test_one_value_is_not_given_twice(api: Api) -> None:
    many = set()
    for method, address, parameters in operations(api):
        for parameter in parameters:
            name = parameter["name"]
            url = f"{address}?{name}=1&{name}=2"
            told = api.client.request(method, url, headers=api.admin).json()
            wheres = [
                error["what"] for error in told["errors"] if error["where"] == f"query.{name}"
            ]
            twice = wheres == ["is given more than once and takes one value"]
            if not twice:
                many.add(name)
    assert many == {"detector", "type", "tier"}


@pytest.mark.parametrize(
    ("name", "meant"), [("sevrity", "severity_min"), ("Family", "family"), ("zzz", None)]
)
def test_what_was_meant_is_named(api: Api, name: str, meant: str | None) -> None:
    told = problem(api.get("/v1/findings", params={name: "1"}), 422, "invalid")
    (error,) = told["errors"]
    assert ("meant" in error["what"]) == (meant is not None)
    if meant is not None:
        assert meant in error["what"]
        assert meant in error["what_zh"]


@pytest.mark.parametrize("name", ["370102199001011234", "13800138000", "a b", "", "x" * 50, "\x00"])
def test_what_may_be_a_personal_number_is_not_repeated(api: Api, name: str) -> None:
    told = problem(api.get("/v1/findings", params={name: "1"}), 422, "invalid")
    (error,) = told["errors"]
    assert error["where"] == "query"
    assert not name or name not in str(told["errors"]) + told["detail"] + told["detail_zh"]


def test_who_may_not_ask_is_told_that_first(api: Api) -> None:
    for method, address, _ in operations(api)[:15]:  # more without a key are too many
        bare = api.client.request(method, f"{address}?sevrity=high")
        problem(bare, 401, "unauthenticated")
    answer = api.client.post("/v1/outcomes?dry_run=1", json=[], headers=api.reader)
    problem(answer, 403, "forbidden")


def test_pages_lead_on_with_what_was_asked(api: Api) -> None:
    api.world.store(*(finding(i) for i in range(5)))
    query = {"detector": ["repeated_transfer", "reverse_flow"], "limit": 2}
    answer = api.get("/v1/findings", params=query, headers={"Accept": "text/csv"})
    (following,) = re.findall(r"<(.+)>", answer.headers["link"])
    assert api.get(following).status_code == 200

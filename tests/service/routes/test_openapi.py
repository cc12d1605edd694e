from __future__ import annotations

import json
from typing import Any

import pytest

from tests.service.routes.conftest import Api
from trace_engine.service.routes._shapes import Shape

OURS = (
    "/v1/findings", "/v1/findings/{finding_id}", "/v1/sellers", "/v1/sellers/{enterprise_id}",
    "/v1/codes/{code}", "/v1/graph", "/v1/sampling-plans", "/v1/sampling-plans/{plan_id}",
    "/v1/outcomes", "/v1/stream", "/v1/webhooks", "/v1/webhooks/{webhook_id}",
    "/v1/webhooks/{webhook_id}/deliveries",
    "/v1/webhooks/{webhook_id}/deliveries/{number}/retry", "/v1/detectors", "/v1/rejects",
    "/v1/audit",
)  # fmt: skip


def shapes(base: type[Shape]) -> list[type[Shape]]:
    """Return all models below one."""
    return [one for model in base.__subclasses__() for one in (model, *shapes(model))]


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.client.app.openapi()  # type: ignore[attr-defined]
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path in OURS
        for method, operation in document["paths"][path].items()
    ]


def test_every_operation_says_what_it_does_and_every_answer_has_a_schema(
    document: dict[str, Any],
) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], path
        assert any("一" <= letter <= "鿿" for letter in operation["summary"]), path
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert good, path
        for status, response in operation["responses"].items():
            if status in ("204", "304"):
                assert "content" not in response, (path, method, status)
                continue
            assert response["content"], (path, method, status)
            for media, content in response["content"].items():
                assert content.get("schema"), (path, method, status, media)


def test_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    checked = 0
    for model in shapes(Shape):
        for example in (
            document["components"]["schemas"].get(model.__name__, {}).get("examples", ())
        ):
            model.model_validate_json(json.dumps(example))
            checked += 1
    assert checked >= 9


def test_parameters_are_described_or_speak_for_themselves(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        names = [parameter["name"] for parameter in operation.get("parameters", ())]
        assert len(names) == len(set(names)), path
        assert "request" not in names


def test_limits_of_numbers_are_told_in_the_words_of_json_schema(document: dict[str, Any]) -> None:
    foreign = {"ge", "gt", "le", "lt"}  # pydantic's, where a validator hides the number from it

    def walk(value: Any, where: str) -> None:
        if isinstance(value, dict):
            assert not foreign & set(value), where
            for name, inner in value.items():
                walk(inner, f"{where}/{name}")
        elif isinstance(value, list):
            for inner in value:
                walk(inner, where)

    walk(document["components"]["schemas"], "schemas")
    walk(document["paths"], "paths")
    budget = document["components"]["schemas"]["PlanRequest"]["properties"]["budget"]
    assert (budget["minimum"], budget["maximum"]) == (0, 100_000)

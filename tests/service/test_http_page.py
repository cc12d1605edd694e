"""The page for callers names every address with the role that it asks for, and every problem."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.service.fakes import FakeHost, FakeKeys, settings
from trace_engine.service.access import Role
from trace_engine.service.app import ROUTES, ROUTES_PACKAGE, create_app
from trace_engine.service.problems import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = create_app(FakeHost(), settings(), keys=FakeKeys(), audit=lambda _: None)
    made: dict[str, Any] = app.openapi()
    return made


def test_every_address_stands_on_the_page(document: dict[str, Any]) -> None:
    table = PAGE[: PAGE.index("## Sending events")]
    for path in document["paths"]:
        if path.startswith("/v1/webhooks"):
            path = "/v1/webhooks"
        if path == "/v1/sampling-plans/{plan_id}":
            path = "/v1/sampling-plans"
        assert path in table, path


def test_every_problem_stands_on_the_page_with_its_status() -> None:
    for name, kind in KINDS.items():
        row = next(line for line in PAGE.splitlines() if f"`{name}`" in line and line[0] == "|")
        assert str(kind.status) in row


def test_kinds_that_the_code_raises_are_explained() -> None:
    raised = set()
    for file in (ROOT / "trace_engine" / "service").rglob("*.py"):
        raised |= set(re.findall(r'Problem\(\s*\d{3},\s*"([\w-]+)"', file.read_text("utf-8")))
    assert len(raised) > 8
    assert raised - set(KINDS) == set()


def test_every_module_of_routes_is_part_of_the_app() -> None:
    folder = ROOT.joinpath(*ROUTES_PACKAGE.split("."))
    assert {file.stem for file in folder.glob("[a-z]*.py")} == set(ROUTES)


def test_every_operation_of_v1_asks_for_a_key_and_documents_its_problems(
    document: dict[str, Any],
) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert any("\u4e00" <= letter <= "\u9fff" for letter in operation["summary"]), where
            assert {"401", "403", "422", "429", "500", "503"} <= set(operation["responses"]), where
            if path.startswith("/v1/"):
                assert operation["security"], where


def test_every_tag_is_described(document: dict[str, Any]) -> None:
    used = {tag for o in document["paths"].values() for op in o.values() for tag in op["tags"]}
    assert {tag["name"] for tag in document["tags"]} == used


def test_roles_of_the_page_are_roles() -> None:
    roles = set(re.findall(r"\| `(\w+)` \|$", PAGE, re.MULTILINE))
    assert roles == set(Role)

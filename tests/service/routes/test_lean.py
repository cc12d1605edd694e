"""Arguments read by validators of our own are those that FastAPI would give."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from trace_engine.service.app import ROUTES, ROUTES_PACKAGE
from trace_engine.service.routes._lean import lean
from trace_engine.service.routes._query import StrictRoute


class Level(StrEnum):
    HIGH = "high"
    LOW = "low"


async def who(request: Request) -> str:
    return request.headers.get("x-who", "nobody")


async def echo(
    request: Request,
    caller: Annotated[str, Depends(who)],
    place: Annotated[int, Path(ge=0, le=99)],
    wait: Annotated[float, Query(ge=0, le=30, allow_inf_nan=False)] = 1.0,
    name: Annotated[str | None, Query(max_length=4, pattern="^[a-z]+$")] = None,
    day: Annotated[dt.date | None, Query(alias="on")] = None,
    level: Level = Level.LOW,
    order: Literal["newest", "oldest"] = "newest",
    whole: bool = False,
    key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=3)] = None,
    from_header: Annotated[int, Header()] = 0,
) -> Response:
    said = (caller, place, wait, name, day, level, order, whole, key, from_header)
    return JSONResponse([request.url.path[-1:], *map(repr, said)])


def block(required: Annotated[int, Query()], other: int = 3) -> Response:
    return JSONResponse([required, other])


def client(kind: type[APIRoute]) -> TestClient:
    router = APIRouter(route_class=kind)
    router.get("/v1/echo/{place}")(echo)
    router.get("/v1/block")(block)
    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


PLAIN, OURS = client(APIRoute), client(StrictRoute)
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "1", "30", "31", "-1", "nan", "inf", "1e1", "abc", "abcde", "ABC", "high", "LOW",
         "low", "oldest", "newest", "true", "no", "2026-11-22", "2026-13-01", "٣", " 1", "1 "]
    ),
    st.text(max_size=6),
)  # fmt: skip
NAMES = ("wait", "name", "on", "level", "order", "whole", "required", "other")


@given(
    place=st.sampled_from(["0", "7", "99", "100", "x", "1.0", "%20"]),
    query=st.dictionaries(st.sampled_from(NAMES[:6]), VALUES, max_size=6),
    headers=st.dictionaries(
        st.sampled_from(["idempotency-key", "Idempotency-Key", "from-header", "x-who"]),
        st.sampled_from(["", "1", "abc", "abcd", "-5", "x"]),
        max_size=3,
    ),
)
def test_as_fastapi_does(place: str, query: dict[str, str], headers: dict[str, str]) -> None:
    answers = [one.get(f"/v1/echo/{place}", params=query, headers=headers) for one in (PLAIN, OURS)]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json() == answers[1].json()


@given(query=st.dictionaries(st.sampled_from(NAMES[6:]), VALUES, max_size=2))
def test_as_fastapi_does_for_functions_that_block(query: dict[str, str]) -> None:
    answers = [one.get("/v1/block", params=query) for one in (PLAIN, OURS)]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json() == answers[1].json()


def test_what_comes_often_is_read_so() -> None:
    read_so = {
        (method, route.path)
        for name in ROUTES
        for route in import_module(f"{ROUTES_PACKAGE}.{name}").router.routes
        for method in route.methods
        if lean(route.dependant) is not None
    }
    assert {("POST", "/v1/events"), ("GET", "/v1/codes/{code:path}")} <= read_so


@pytest.mark.parametrize("function", [echo, block])
def test_plain_parameters_are_read_so(function: Any) -> None:
    assert lean(APIRoute("/v1/echo/{place}", function).dependant) is not None


def _many(names: Annotated[list[str], Query()]) -> Response:
    return Response()


def _maybe_many(names: Annotated[set[str] | None, Query()] = None) -> Response:
    return Response()


def _body(what: Annotated[dict[str, Any], Body()]) -> Response:
    return Response()


def _document() -> dict[str, str]:
    return {}


async def _asks(name: str) -> str:
    return name


def _deep(name: Annotated[str, Depends(_asks)]) -> Response:
    return Response()


def _changes(response: Response) -> Response:
    return response


@pytest.mark.parametrize("function", [_many, _maybe_many, _body, _document, _deep, _changes])
def test_the_rest_is_left_to_fastapi(function: Any) -> None:
    assert lean(APIRoute("/v1/x", function).dependant) is None

"""Queries are taken as they are meant or not at all: what an address does not know is refused.

A filter that is misspelt and ignored would answer with everything, and look like an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterator
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from trace_engine.service.problems import MOST_ERRORS, Problem
from trace_engine.service.routes._lean import lean

API = "/v1/"
# What a name can look like; anything else is not repeated: it may be the number of a person.
_NAME = re.compile(r"[A-Za-z_][A-Za-z_.-]{0,39}[0-9]{0,2}(\[\])?")


class StrictRoute(APIRoute):
    """A route below ``/v1`` that answers 422 to query parameters it does not have.

    The same for a parameter given twice that takes one value: only the last would count. Costs a
    request without a query nothing, one with some microseconds: the query is split once and kept.
    Who may not ask learns that first (401, 403, 429), before any of the body is read, so
    ``dependencies`` of these routes are all of the kind that ``access.require`` makes. FastAPI asks
    them again after the body; they remember.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route behind the check of the query."""
        answer = super().get_route_handler()
        if not self.path.startswith(API):
            return answer
        known = dict(sorted(parameters_of(self.dependant)))
        gates = [
            (gate.name, gate.call) for gate in self.dependant.dependencies if gate.call is not None
        ]
        direct = lean(self.dependant)

        async def checked(request: Request) -> Response:
            solved: dict[str, Any] = {}
            for name, gate in gates:
                caller = await gate(request)
                if name is not None:
                    solved[name] = caller
            if request.scope["query_string"]:
                _check(request, known)
            if direct is not None:
                arguments = direct.arguments(request, solved)
                if arguments is not None:
                    return await direct.answer(arguments)
            return await answer(request)

        return checked


def parameters_of(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the names of the query parameters of a route, and whether each takes many values."""
    for field in dependant.query_params:
        yield field.alias, _takes_many(field.field_info.annotation)
    for part in dependant.dependencies:
        yield from parameters_of(part)


def _takes_many(annotation: Any) -> bool:
    """Return whether a type is a list, or a union with one."""
    if annotation is list or get_origin(annotation) is list:
        return True
    return get_origin(annotation) is not None and any(map(_takes_many, get_args(annotation)))


def _check(request: Request, known: dict[str, bool]) -> None:
    seen: set[str] = set()
    wrong: dict[str, bool] = {}  # name: whether it is known, and given again
    for name, _ in request.query_params.multi_items():
        many = known.get(name)
        if many is None or (not many and name in seen):
            wrong.setdefault(name, many is not None)
        seen.add(name)
    if wrong:
        raise refused(wrong, list(known))


def refused(wrong: dict[str, bool], known: list[str]) -> Problem:
    """Return the answer to a query with parameters that are ``wrong``: unknown, or given twice."""
    errors = [
        _twice(name) if again else _unknown(name, known)
        for name, again in list(wrong.items())[:MOST_ERRORS]
    ]
    some, some_zh = ", ".join(known) or "none", "、".join(known) or "无"
    return Problem(
        422,
        "invalid",
        detail=f"The query cannot be used: {'; '.join(_told(e, 'what') for e in errors)}. "
        f"Parameters of this address: {some}.",
        detail_zh=f"查询参数不可用：{'；'.join(_told(e, 'what_zh') for e in errors)}。"
        f"此地址的参数：{some_zh}。",
        errors=errors,
        known_parameters=known,
    )


def _told(error: dict[str, str], words: str) -> str:
    return f"{error['where'].partition('.')[2]} {error[words]}".strip()


def _twice(name: str) -> dict[str, str]:
    return {
        "where": f"query.{name}",
        "what": "is given more than once and takes one value",
        "what_zh": "重复给出，只能有一个值",
        "rule": "too_long",
    }


def _unknown(name: str, known: list[str]) -> dict[str, str]:
    if not _NAME.fullmatch(name):
        return {
            "where": "query",
            "what": "holds something that is no name of a parameter",
            "what_zh": "含有不是参数名的内容",
            "rule": "extra_forbidden",
        }
    near = get_close_matches(name.lower(), known, n=1)
    return {
        "where": f"query.{name}",
        "what": "is no parameter of this address" + (f" (meant: {near[0]}?)" if near else ""),
        "what_zh": "不是此地址的参数" + (f"（是否指 {near[0]}？）" if near else ""),
        "rule": "extra_forbidden",
    }

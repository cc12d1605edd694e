"""Arguments of a route's function, read by validators that are built once.

FastAPI asks at each request of each parameter and each dependency what kind it is: a third of what
a small request costs its event loop. Here that is asked once, when the route is made. Only what is
right is read this way: where a value is missing or wrong the answer is FastAPI's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One value of a query, an address or a header."""

    name: str
    alias: str
    default: Any
    required: bool
    read: Callable[[Any], Any]


class Lean:
    """Reads the arguments of one route's function."""

    def __init__(self, call: Callable[..., Any], dependant: Dependant) -> None:
        self._call = call
        self._waits = inspect.iscoroutinefunction(call)
        self._request = dependant.request_param_name
        self._query = _parameters(dependant.query_params)
        self._path = _parameters(dependant.path_params)
        self._headers = _parameters(dependant.header_params)

    async def answer(self, arguments: dict[str, Any]) -> Response:
        """Call the function; one that may block in a thread of the pool."""
        if self._waits:
            found: Response = await self._call(**arguments)
        else:
            found = await run_in_threadpool(self._call, **arguments)
        return found

    def arguments(self, request: Request, solved: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments, beside those of ``solved`` dependencies; None if one is not right."""
        values = dict(solved)
        if self._request is not None:
            values[self._request] = request
        try:
            _read(self._path, request.path_params, values)
            if self._query:
                _read(self._query, request.query_params, values)
            if self._headers:
                _read(self._headers, request.headers, values)
        except (ValidationError, KeyError):
            return None
        return values


def lean(dependant: Dependant) -> Lean | None:
    """Return what reads the arguments of a route; None where only FastAPI can.

    That is where a body is declared, a parameter takes many values or is a model, a dependency has
    parameters of its own, or what the function returns is no response yet.
    """
    call = dependant.call
    declared = (*dependant.query_params, *dependant.path_params, *dependant.header_params)
    other = (
        dependant.body_params,
        dependant.cookie_params,
        dependant.websocket_param_name,
        dependant.http_connection_param_name,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
    )
    if (
        call is None
        or any(other)
        or inspect.get_annotations(call, eval_str=True).get("return") is not Response
        or any(_is_manifold(field.field_info.annotation) for field in declared)
        or any(not _is_alone(part) for part in dependant.dependencies)
    ):
        return None
    return Lean(call, dependant)


def _is_alone(dependant: Dependant) -> bool:
    """Return whether a dependency needs nothing but the request."""
    declared = (
        *dependant.query_params,
        *dependant.path_params,
        *dependant.header_params,
        *dependant.cookie_params,
        *dependant.body_params,
        *dependant.dependencies,
    )
    return not declared and dependant.request_param_name is not None


def _is_manifold(annotation: Any) -> bool:
    """Return whether a type is a model or takes many values, or is a union with one that does."""
    if isinstance(annotation, type):
        return issubclass(annotation, (BaseModel, list, tuple, set, frozenset, Sequence)) and not (
            issubclass(annotation, str)
        )
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, (list, tuple, set, frozenset)):
        return True
    return any(_is_manifold(part) for part in get_args(annotation))


def _parameters(fields: Sequence[Any]) -> tuple[_Parameter, ...]:
    return tuple(map(_parameter, fields))


def _parameter(field: Any) -> _Parameter:
    info = field.field_info
    kind: Any = Annotated[info.annotation, info]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    required = bool(info.is_required())
    default = None if required else info.get_default()
    return _Parameter(field.name, field.alias, default, required, adapter.validate_python)


def _read(
    parameters: tuple[_Parameter, ...], given: Mapping[str, Any], values: dict[str, Any]
) -> None:
    """Put what is given into ``values``; raises ``KeyError`` or ``ValidationError``."""
    for parameter in parameters:
        value = given.get(parameter.alias)
        if value is not None:
            values[parameter.name] = parameter.read(value)
        elif parameter.required:
            raise KeyError(parameter.alias)
        else:
            values[parameter.name] = parameter.default

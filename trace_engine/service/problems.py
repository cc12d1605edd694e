"""Every error is a problem document (RFC 9457), in Chinese and English, and never a stack trace.

``Problem`` is raised anywhere below a route; :func:`install` makes every other error of the
framework one too. ``type`` is ``/problems/<kind>``, a page that says what the kind means. What a
caller sent is never repeated in an answer by this module: it may hold personal numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from trace_engine.service.turns import StandsStill

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/problems/"
STILL_SECONDS = 30.0  # until a caller shall ask again whom a full disk sent away
MOST_ERRORS = 50  # of one request told back; more says nothing new


class Kind(NamedTuple):
    """What a kind of problem means, for its page and for answers without own words."""

    status: int
    title: str
    title_zh: str
    about: str
    about_zh: str


KINDS: dict[str, Kind] = {
    "bad-request": Kind(
        400,
        "The request cannot be understood",
        "请求无法理解",
        "The request is not well-formed HTTP or its body is not what its type says.",
        "请求不是合法的 HTTP，或正文与所声明的类型不符。",
    ),
    "unauthenticated": Kind(
        401,
        "A valid key is needed",
        "需要有效的密钥",
        "Send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'. A key that is unknown, "
        "expired or revoked gives the same answer.",
        "请以 Authorization: Bearer 密钥 或 X-API-Key: 密钥 发送。未知、过期或已吊销的密钥回答相同。",
    ),
    "forbidden": Kind(
        403,
        "The key may not do this",
        "该密钥无此权限",
        "The key is valid but has none of the roles that this address asks for.",
        "密钥有效，但没有此地址所要求的角色。",
    ),
    "not-found": Kind(
        404, "Not found", "未找到", "There is nothing at this address.", "此地址没有内容。"
    ),
    "method-not-allowed": Kind(
        405,
        "Method not allowed",
        "不支持该方法",
        "The address exists, but not for this method; see the header Allow.",
        "地址存在，但不支持该方法；可用方法见 Allow 头。",
    ),
    "not-acceptable": Kind(
        406,
        "Not available in that form",
        "没有该格式",
        "Nothing that the header Accept allows can be given.",
        "无法给出 Accept 头所允许的格式。",
    ),
    "request-timeout": Kind(
        408,
        "The request came too slowly",
        "请求到达过慢",
        "The body did not arrive within the time allowed. Nothing of it was kept.",
        "正文未在规定时间内到齐，未保存任何内容。",
    ),
    "conflict": Kind(
        409,
        "Conflicts with what is stored",
        "与已存内容冲突",
        "What is asked contradicts what is already stored under the same name.",
        "所请求的内容与同名的已存内容矛盾。",
    ),
    "too-large": Kind(
        413,
        "The body is too large",
        "正文过大",
        "Send fewer events in one request. Nothing of it was kept.",
        "请减少每次请求的事件数。未保存任何内容。",
    ),
    "address-too-long": Kind(
        414,
        "The address is too long",
        "地址过长",
        "The path and the query together are longer than allowed.",
        "路径与查询参数的总长超过限制。",
    ),
    "unsupported-media-type": Kind(
        415,
        "This type of body is not taken",
        "不支持该正文类型",
        "Content-Type or Content-Encoding names a form that this address does not read.",
        "Content-Type 或 Content-Encoding 为此地址不支持的格式。",
    ),
    "wrong-host": Kind(
        421,
        "Not the host asked for",
        "主机名不符",
        "The header Host names another service. A service without keys answers only to localhost, "
        "127.0.0.1 and [::1], so that no web page can reach it under a name of its own.",
        "Host 头指向其他服务。未设密钥的服务只应答 localhost、127.0.0.1 和 [::1]，以防网页借其他域名访问。",
    ),
    "invalid": Kind(
        422,
        "Some values cannot be used",
        "部分值不可用",
        "'errors' names the place of each value and what is wrong with it.",
        "errors 逐项列出位置与原因。",
    ),
    "too-many-requests": Kind(
        429,
        "Too many requests",
        "请求过多",
        "Wait the seconds of the header Retry-After, then send the same request again.",
        "请等待 Retry-After 头所示秒数后重发同一请求。",
    ),
    "headers-too-large": Kind(
        431,
        "The headers are too large",
        "请求头过大",
        "The headers together are larger than allowed.",
        "请求头总长超过限制。",
    ),
    "internal": Kind(
        500,
        "The service failed",
        "服务内部错误",
        "A fault of the service, logged under 'request_id'. Repeat the request with the same batch "
        "id: nothing is counted twice.",
        "服务自身故障，已按 request_id 记录。可用同一批次号重发，不会重复计数。",
    ),
    "unavailable": Kind(
        503,
        "Not available now",
        "暂不可用",
        "The service is starting, replaying its journal, stopping or overloaded. Wait the seconds "
        "of the header Retry-After.",
        "服务正在启动、回放日志、停止或过载。请等待 Retry-After 头所示秒数。",
    ),
}
_OF_STATUS = {kind.status: name for name, kind in KINDS.items()}


class Problem(HTTPException):
    """An answer other than success. Raised anywhere, told as ``application/problem+json``.

    ``members`` are further members of the document: ``detail_zh``, the detail in Chinese;
    ``retry_after`` (seconds), which also sets the header; anything else that helps the caller.
    ``headers`` go into the answer. Being an HTTPException, it passes through FastAPI's reading of
    bodies unchanged.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str = "",
        detail: str = "",
        title_zh: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        known = KINDS.get(kind)
        extra = dict(headers or {})
        if members.get("retry_after") is not None:
            # Whole seconds, rounded up: to come back too early would only be refused again.
            extra.setdefault("Retry-After", str(max(1, -int(-members["retry_after"] // 1))))
        super().__init__(status, detail or title, extra or None)
        self.kind = kind
        self.title = title or (known.title if known else HTTPStatus(status).phrase)
        self.title_zh = title_zh or (known.title_zh if known else "")
        self.text = detail or (known.about if known else "")
        if not detail and known:
            members.setdefault("detail_zh", known.about_zh)
        self.members = members


def document(problem: Problem, request_id: str = "") -> dict[str, Any]:
    """Return the members of the problem document."""
    body = {
        "type": TYPE_PREFIX + problem.kind,
        "title": problem.title,
        "title_zh": problem.title_zh,
        "status": problem.status_code,
        "detail": problem.text,
    }
    body |= {name: value for name, value in problem.members.items() if name not in body}
    if request_id:
        body["request_id"] = request_id
    return body


def response(problem: Problem, request_id: str = "") -> Response:
    """Return the answer that tells ``problem``."""
    return Response(
        msgspec.json.encode(document(problem, request_id), enc_hook=str),
        status_code=problem.status_code,
        headers=dict(problem.headers or {}),
        media_type=MEDIA_TYPE,
    )


def internal() -> Problem:
    """Return the problem told for a fault of the program: nothing of its cause."""
    return Problem(500, "internal")


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem document."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StandsStill, _still)


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


async def _still(request: Request, _error: Exception) -> Response:
    told = Problem(
        503,
        "unavailable",
        detail="the engine waits for room on a full disk and cannot be asked meanwhile",
        detail_zh="磁盘已满，引擎正在等待空间，暂时无法查询",
        retry_after=STILL_SECONDS,
    )
    return response(told, _request_id(request))


async def _http(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return response(error, _request_id(request))
    if not isinstance(error, HTTPException):
        raise error
    kind = _OF_STATUS.get(
        error.status_code, "internal" if error.status_code >= 500 else "bad-request"
    )
    told = Problem(error.status_code, kind, headers=error.headers)
    return response(told, _request_id(request))


_DAY_ZH = "应为日期，如 2026-03-01"
_MOMENT_ZH = "应为日期或时刻，如 2026-03-01 或 2026-03-01T08:00:00+08:00"
# Pydantic's rules that callers meet, with its own names for the limits ({ge}, {expected}, ...).
RULES_ZH: dict[str, str] = {
    "missing": "缺少此项",
    "extra_forbidden": "没有此项，请核对名称",
    "json_invalid": "不是合法的 JSON",
    "greater_than": "应大于 {gt}",
    "greater_than_equal": "应不小于 {ge}",
    "less_than": "应小于 {lt}",
    "less_than_equal": "应不大于 {le}",
    "literal_error": "应为以下之一：{expected}",
    "string_type": "应为文本",
    "string_too_short": "至少 {min_length} 个字符",
    "string_too_long": "最多 {max_length} 个字符",
    "string_pattern_mismatch": "格式不符，应匹配 {pattern}",
    "too_short": "至少 {min_length} 项",
    "too_long": "最多 {max_length} 项",
    "int_type": "应为整数",
    "int_parsing": "应为整数",
    "int_from_float": "应为整数",
    "float_type": "应为数字",
    "float_parsing": "应为数字",
    "finite_number": "应为有限的数字",
    "bool_type": "应为 true 或 false",
    "bool_parsing": "应为 true 或 false",
    "list_type": "应为数组",
    "model_type": "应为 JSON 对象",
    "model_attributes_type": "应为 JSON 对象",
    "date_type": _DAY_ZH,
    "date_parsing": _DAY_ZH,
    "date_from_datetime_parsing": _DAY_ZH,
    "date_from_datetime_inexact": _DAY_ZH,
    "datetime_type": _MOMENT_ZH,
    "datetime_parsing": _MOMENT_ZH,
    "datetime_from_date_parsing": _MOMENT_ZH,
}


def rule_zh(rule: str, limits: Mapping[str, Any]) -> str:
    """Return in Chinese what a value has to be by pydantic's ``rule``; empty for rare rules."""
    words = RULES_ZH.get(rule, "")
    try:
        # Pydantic joins the choices of a literal in English.
        return words.format_map(
            {
                name: str(value).replace(" or ", "、").replace(", ", "、")
                if name == "expected"
                else value
                for name, value in limits.items()
            }
        )
    except KeyError:  # another version of pydantic calls the limit by another name
        return ""


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found: Sequence[Mapping[str, Any]] = error.errors()
    # The value itself is left out: it may be a personal number.
    errors = []
    for e in found[:MOST_ERRORS]:
        told = {"where": ".".join(map(str, e["loc"])), "what": str(e["msg"])}
        chinese = rule_zh(str(e["type"]), e.get("ctx") or {})
        errors.append(told | ({"what_zh": chinese} if chinese else {}) | {"rule": str(e["type"])})
    return response(Problem(422, "invalid", errors=errors), _request_id(request))


class ProblemDocument(BaseModel):
    """What every answer other than success holds (RFC 9457)."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="/problems/<kind>: a page that says what this kind means")
    title: str = Field(description="What went wrong, in English; the same for all of a kind")
    title_zh: str = Field(description="What went wrong, in Chinese")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What went wrong this time")
    detail_zh: str | None = Field(None, description="The same in Chinese")
    request_id: str | None = Field(None, description="Find the request in the service's log by it")


SCHEMA_NAME = "Problem"
_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{SCHEMA_NAME}"}}}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the part of OpenAPI that documents problems with these statuses."""
    out: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kind = KINDS[_OF_STATUS[status]]
        told: dict[str, Any] = {
            "description": f"{kind.title} · {kind.title_zh}",
            "content": _CONTENT,
        }
        if status in (429, 503):
            told["headers"] = {
                "Retry-After": {
                    "description": "Seconds to wait before the next try",
                    "schema": {"type": "integer"},
                }
            }
        out[status] = told
    return out


# Any route may give these: the app adds them to each, so that no answer is undocumented.
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = responses(*sorted(_OF_STATUS))

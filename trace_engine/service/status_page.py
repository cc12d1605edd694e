"""``/``, ``/v1/status``, ``/docs`` and ``/problems``: what a person at a browser sees.

Pages are whole without scripts and load nothing from elsewhere. The status page shows counts only:
no seller, no code, no finding.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

import trace_engine
from trace_engine.service.access import Caller, Role, identify, require
from trace_engine.service.deps import host_of, settings_of
from trace_engine.service.problems import KINDS, Problem
from trace_engine.service.routes._query import StrictRoute

HERE = Path(__file__).parent
SHANGHAI = timezone(timedelta(hours=8))
router = APIRouter(route_class=StrictRoute)

State = Literal["ready", "replaying", "stalled", "stopping", "failed"]
STATES = {
    "ready": ("运行正常", "Running"),
    "replaying": ("正在回放日志，尚不可用", "Replaying the journal, not ready yet"),
    "stalled": (
        "线索或状态暂时无法写入（数据库或磁盘），正在重试",
        "Findings or state cannot be written now (database or disk); trying again",
    ),
    "stopping": ("未就绪", "Not ready"),
    "failed": ("引擎因错误停止，请查看日志", "The engine stopped by an error; see the log"),
    "gone": ("无法连接服务", "The service cannot be reached"),
}
LINKS = (
    ("/docs", "接口文档", "API documentation"),
    ("/openapi.json", "OpenAPI 定义", "OpenAPI definition"),
    ("/v1/findings", "线索", "findings"),
    ("/v1/sellers", "企业排名", "ranking of sellers"),
    ("/v1/status", "本页数据", "the numbers of this page"),
    ("/metrics", "监控指标", "metrics for Prometheus"),
    ("/readyz", "是否就绪", "readiness"),
    ("/problems", "错误说明", "what errors mean"),
)


class Counts(BaseModel):
    """Rows since the service first started with this data folder."""

    rows: int = Field(description="received")
    events: int = Field(description="judged; others wait for their day")
    duplicates: int = Field(description="known already, not counted again")
    rejects: int = Field(description="not taken")
    late: int = Field(description="came after their day was closed; judged all the same")


class Status(BaseModel):
    """How the service is. Times are Asia/Shanghai."""

    version: str
    state: State
    open: bool = Field(description="No key exists: everybody on this machine is admin")
    started_at: datetime
    watermark: date | None = Field(description="Latest day seen")
    closed_through: date | None = Field(description="Last day whose events are judged")
    lateness_days: int = Field(description="So many days before the latest one seen stay open")
    counts: Counts
    pending_events: int = Field(description="Events held until their day closes")
    live_codes: int = Field(description="Codes in the engine's state")
    archived_codes: int = Field(description="Codes long closed, on disk and ready to come back")
    state_bytes: int = Field(description="Memory of the engine's state")
    findings: int = Field(description="Findings in the store")
    last_offset: int = Field(description="Last record of the journal")
    taken_offset: int = Field(description="Last record that the engine took")
    waiting_rows: int = Field(description="Rows in the journal not yet taken")
    waiting_bytes: int
    checkpoint_offset: int = Field(description="Last record that the newest checkpoint holds")
    checkpoint_at: datetime | None
    checkpoint_seconds: float | None = Field(description="How long the newest checkpoint took")


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(int(seconds), SHANGHAI)


def status_of(request: Request) -> Status:
    """Return the status of the service that got ``request``."""
    told = host_of(request).status()
    state: State = "stopping"
    if told.error is not None:
        state = "failed"
    elif told.problem is not None:
        state = "stalled"
    elif told.replaying:
        state = "replaying"
    elif told.ready:
        state = "ready"
    return Status(
        version=trace_engine.__version__,
        state=state,
        open=request.app.state.doorkeeper.was_open,
        started_at=datetime.fromtimestamp(int(told.started_at), SHANGHAI),
        watermark=told.watermark,
        closed_through=told.closed_through,
        lateness_days=settings_of(request).lateness_days,
        counts=Counts(**{name: told.counts.get(name, 0) for name in Counts.model_fields}),
        pending_events=told.pending_events,
        live_codes=told.live_codes,
        archived_codes=told.archived_codes,
        state_bytes=told.state_bytes,
        findings=told.findings,
        last_offset=told.last_offset,
        taken_offset=told.taken_offset,
        waiting_rows=told.waiting_rows,
        waiting_bytes=told.waiting_bytes,
        checkpoint_offset=told.checkpoint_offset,
        checkpoint_at=_moment(told.checkpoint_at),
        checkpoint_seconds=told.checkpoint_seconds,
    )


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
    )
    environment.globals.update(
        n=lambda count: f"{count:,}",
        bytes=_bytes,
        day=lambda value: "—" if value is None else value.isoformat(),
        moment=lambda value: "—" if value is None else f"{value:%Y-%m-%d %H:%M:%S}",
        version=trace_engine.__version__,
    )
    return environment


def _bytes(count: float) -> str:
    unit = 0
    while count >= 1024 and unit < 4:
        count /= 1024
        unit += 1
    return f"{count:.{1 if unit else 0}f} {('B', 'KB', 'MB', 'GB', 'TB')[unit]}"


def _page(name: str, status: int = 200, headers: Any = None, **values: Any) -> HTMLResponse:
    text = _templates().get_template(name).render(**values)
    return HTMLResponse(text, status, headers)


@router.get("/", include_in_schema=False)
async def front(request: Request) -> Response:
    """Show the status page; who has no key is told how to give one."""
    request.app.state.limiter.before(request)
    caller = await identify(request)
    if caller is None:
        if "authorization" in request.headers:
            request.app.state.limiter.refused(request)
        challenge = {"WWW-Authenticate": 'Basic realm="trace-engine", charset="UTF-8"'}
        return _page("sign_in.html.j2", 401, challenge)
    if not caller.may(Role.READ):
        raise Problem(403, "forbidden")
    told = await run_in_threadpool(status_of, request)
    return _page("status.html.j2", s=told, states=STATES, links=LINKS)


@router.get("/v1/status", tags=["operation"], summary="Counters and progress · 运行状态")
async def status(
    request: Request, _caller: Annotated[Caller, Depends(require(Role.READ, Role.INGEST))]
) -> Status:
    """Answer with the numbers of the status page."""
    return await run_in_threadpool(status_of, request)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Answer with the OpenAPI document. Needs no key: it holds no data."""
    state = request.app.state
    if not hasattr(state, "openapi_bytes"):  # some 200 KB: made once
        state.openapi_bytes = bytes(JSONResponse(request.app.openapi()).body)
    return Response(state.openapi_bytes, media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """Show the OpenAPI document by Swagger UI, served from here."""
    return _page("docs.html.j2")


@router.get("/problems", include_in_schema=False)
async def problem_kinds() -> Response:
    """Show what every kind of problem means."""
    return _page("problems.html.j2", kinds=KINDS)


@router.get("/problems/{kind}", include_in_schema=False)
async def problem_kind(kind: str) -> Response:
    """Show what one kind of problem means."""
    if kind not in KINDS:
        raise Problem(404, "not-found")
    return _page("problems.html.j2", kinds={kind: KINDS[kind]})


class Static(StaticFiles):
    """Files of pages. Browsers keep them, but ask each time whether they changed."""

    def __init__(self) -> None:
        super().__init__(directory=HERE / "static")

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the file, or 304 if the browser has it."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response

"""``/healthz``, ``/readyz`` and ``/metrics``: what supervisors and monitors ask."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from trace_engine.service.access import Role, require
from trace_engine.service.deps import RETRY_SECONDS, host_of, metrics_of, settings_of
from trace_engine.service.metrics import MEDIA_TYPE

router = APIRouter(tags=["operation"])
_may_see = require(Role.READ)


class Health(BaseModel):
    """The process answers."""

    status: str = Field("ok", examples=["ok"])


class Readiness(BaseModel):
    """Whether the service can be used."""

    ready: bool
    replaying: bool = Field(description="The journal is read again after a start")
    failed: bool = Field(description="The engine stopped by an error; see the log")


@router.get("/healthz", summary="Is the process alive? · 进程是否存活")
async def healthz() -> Health:
    """Answer 200 as long as the process answers at all. Needs no key."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Can it be used? · 是否可用",
    response_model=Readiness,
    responses={
        503: {
            "description": "Not ready: replaying, failed or stopping · 未就绪",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Readiness"}}},
        }
    },
)
async def readyz(request: Request) -> Response:
    """Answer 200 once the journal is replayed and the engine runs, else 503. Needs no key."""
    status = await run_in_threadpool(host_of(request).status)
    body = Readiness(
        ready=status.ready, replaying=status.replaying, failed=status.error is not None
    )
    headers = None if body.ready else {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse(body.model_dump(), 200 if body.ready else 503, headers)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus · 监控指标",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Answer in the text format of Prometheus. Needs a key that may read, unless set public."""
    if not settings_of(request).public_metrics:
        await _may_see(request)
    return Response(await run_in_threadpool(metrics_of(request).page), media_type=MEDIA_TYPE)

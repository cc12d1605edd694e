"""The app: routers of ``service/routes`` and of this package behind one gate.

``create_app(host, settings)`` starts nothing: whoever calls it starts and closes the host. A router
may bring a ``lifespan`` of its own (``APIRouter(lifespan=...)``) for what runs beside requests.

Without keys the service answers only to the host names of this machine: a test client needs
``base_url="http://127.0.0.1"``.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

import trace_engine
from trace_engine.service import health, problems, status_page
from trace_engine.service.access import Doorkeeper, Keys, name_schemes
from trace_engine.service.audit import AuditTrail, Note
from trace_engine.service.gate import Gate
from trace_engine.service.limits import Limiter
from trace_engine.service.metrics import Metrics
from trace_engine.service.settings import ServiceSettings
from trace_engine.store.audit import AuditLog
from trace_engine.store.keys import KeyStore

if TYPE_CHECKING:
    from trace_engine.service.host import EngineHost

ROUTES_PACKAGE = "trace_engine.service.routes"
ROUTES = (
    "events",
    "findings",
    "sellers",
    "codes",
    "graph",
    "plans",
    "outcomes",
    "catalog",
    "audit",
    "stream",
    "webhooks",
)
TAGS = (
    ("events", "Send events, and know what became of them · 上传事件"),
    ("findings", "What the rules found · 可疑线索"),
    ("sellers", "Whom to look at first · 企业风险排名"),
    ("codes", "Where a pack has been · 追溯码全程"),
    ("graph", "Who trades with whom · 购销网络"),
    ("sampling plans", "What to sample next · 抽检计划"),
    ("outcomes", "What inspections found · 检查与抽检结果"),
    ("stream", "Findings as they are made · 实时线索"),
    ("webhooks", "Findings sent to an address · 推送订阅"),
    ("catalogue", "Rules in use, and rows not taken · 检测规则与拒收记录"),
    ("audit", "Who saw and changed what · 审计日志"),
    ("operation", "Whether it runs, and how · 运行与监控"),
)
DESCRIPTION = """\
Events of drug traceability in, findings out: which sellers to sample next, and why.

药品追溯扫码数据的持续监测：事件送入，给出可疑线索、企业排名与抽检计划。

Every error is a problem document (RFC 9457, `application/problem+json`).
所有错误均为 RFC 9457 问题文档。
"""


def create_app(
    host: EngineHost,
    settings: ServiceSettings,
    *,
    keys: Keys | None = None,
    audit: Callable[[list[Note]], object] | None = None,
    routes: Sequence[str] = ROUTES,
) -> FastAPI:
    """Return the app that answers from ``host``.

    ``keys`` and ``audit`` (where notes go) are those of the host's database unless given;
    ``routes`` are the modules of ``service/routes`` to include.
    """
    trail = AuditTrail(audit if audit is not None else AuditLog(host.database).add)
    metrics = Metrics(host, trail)
    doorkeeper = Doorkeeper(keys if keys is not None else KeyStore(host.database))
    doorkeeper.is_open()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        trail.start()
        try:
            yield
        finally:
            app.state.stopping.set()
            trail.close()
            doorkeeper.close()

    app = FastAPI(
        title="trace-engine",
        version=trace_engine.__version__,
        summary="Finds suspicious drug sellers in traceability scans · 药品追溯可疑销售监测",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=[{"name": name, "description": about} for name, about in TAGS],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=problems.PROBLEM_RESPONSES,
        lifespan=lifespan,
    )
    app.state.host = host
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.doorkeeper = doorkeeper
    limiter = app.state.limiter = Limiter(settings)
    app.state.stopping = threading.Event()  # set when the app is asked to end: streams close
    problems.install(app)
    for name in routes:
        app.include_router(importlib.import_module(f"{ROUTES_PACKAGE}.{name}").router)
    app.include_router(health.router)
    app.include_router(status_page.router)
    app.mount("/static", status_page.Static(), name="static")
    app.add_middleware(
        Gate,
        settings=settings,
        metrics=metrics,
        trail=trail,
        doorkeeper=doorkeeper,
        limiter=limiter,
    )
    _complete_document(app)
    return app


def _complete_document(app: FastAPI) -> None:
    """Add what no route names to the OpenAPI: problem documents, the other way to send a key."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault(problems.SCHEMA_NAME, problems.ProblemDocument.model_json_schema())
        name_schemes(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]

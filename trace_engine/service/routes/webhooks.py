"""Subscriptions to findings, and what became of their deliveries."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request, Response
from pydantic import ConfigDict, Field, StrictBool
from starlette.concurrency import run_in_threadpool

from trace_engine.service.access import Caller, Role, require
from trace_engine.service.deps import host_of, record, settings_of
from trace_engine.service.outbound import RefusedAddressError, check_url
from trace_engine.service.problems import Problem
from trace_engine.service.routes import _answers, _paging
from trace_engine.service.routes._checks import check_detectors
from trace_engine.service.routes._found import invalid, not_found
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import Number, Page, Shape, Text, shanghai
from trace_engine.service.webhooks import Deliverer, WebhookLimits, delivery_id, secrets_of
from trace_engine.store.outbox import Outbox
from trace_engine.store.webhooks import GIVEN_UP, WAITING, Delivery, Subscription

LISTING = "deliveries"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Deliver while the app runs."""
    host = app.state.host
    deliverer = Deliverer(
        host,
        Outbox(host.database),
        secrets_of(app.state.settings),
        WebhookLimits.of(app.state.settings),
    )
    app.state.webhooks = deliverer
    deliverer.start()
    try:
        yield
    finally:
        await run_in_threadpool(deliverer.close)


router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["webhooks"], lifespan=lifespan)

WebhookId = Annotated[
    str, Path(max_length=100, pattern=r"^[A-Za-z0-9_-]+$", examples=["wh-6f1d0c7f2b8a"])
]


class WebhookFilters(Shape):
    """Which findings are sent; what is left out does not restrict."""

    detector: (
        Annotated[
            list[Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9_.:-]+$")]],
            Field(min_length=1, max_length=100),
        ]
        | None
    ) = None
    family: Literal["suspected_violation", "data_quality"] | None = None
    severity_min: Annotated[float, Field(ge=0, le=1), Number] | None = None
    subject_id: Text | None = None
    drug_id: Text | None = None
    region: Annotated[str, Field(pattern=r"^[0-9]{2}([0-9]{2}){0,2}$")] | None = Field(
        None, description="GB/T 2260 code: this place and all inside it."
    )
    jurisdiction: Text | None = None


class NewWebhook(Shape):
    """A subscription that is asked for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "url": "https://desk.example.gov.cn/hooks/trace",
                    "filters": {"family": "suspected_violation", "severity_min": 0.5},
                }
            ]
        },
    )

    url: Annotated[str, Field(min_length=8, max_length=2000)] = Field(
        description="http or https, without a password. Addresses of the service's own machine, "
        "link or cloud are refused unless the settings allow them; redirects are not followed."
    )
    filters: WebhookFilters = WebhookFilters.model_validate({})
    after: Annotated[int, Field(ge=0, lt=2**63), Number] | None = Field(
        None, description="Send findings after this number; 0: all. By default only new ones."
    )


class WebhookChange(Shape):
    """What may be changed of a subscription."""

    active: StrictBool = Field(description="Whether deliveries are made; what is made later waits.")


class WebhookView(Shape):
    """A subscription and how its deliveries go."""

    webhook_id: str
    url: str
    filters: WebhookFilters
    active: bool
    disabled_reason: str | None = Field(description="Why it is not active, if not asked for.")
    created_at: dt.datetime
    created_by: str
    queued_through: int = Field(description="Findings up to this number were looked at.")
    waiting: int = Field(description="Deliveries that are still to arrive.")
    given_up: int = Field(description="Dead letters: deliveries that were given up.")
    attempts: int = Field(description="Tries so far of the delivery that is next.")
    next_attempt: dt.datetime | None = Field(description="When that delivery is tried again.")
    last_error: str | None = Field(description="What went wrong with it last.")


class CreatedWebhook(WebhookView):
    """A new subscription."""

    secret: str = Field(
        description="Checks signatures. Shown this once; keep it.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
    )


class Webhooks(Shape):
    """All subscriptions."""

    webhooks: list[WebhookView]


class DeliveryView(Shape):
    """One delivery."""

    number: int
    delivery_id: str = Field(description="The header `webhook-id` of every try.")
    state: Literal["waiting", "delivered", "given_up"]
    attempts: int
    created_at: dt.datetime
    next_attempt: dt.datetime | None
    done_at: dt.datetime | None
    last_error: str | None


class DeliveriesPage(Page):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryView]


def _outbox(request: Request) -> Outbox:
    return Outbox(host_of(request).database)


def _subscription(request: Request, webhook_id: str) -> Subscription:
    found = _outbox(request).get(webhook_id)
    if found is None:
        raise not_found(f"There is no webhook {webhook_id}.", f"没有推送订阅 {webhook_id}。")
    return found


def _wake(request: Request) -> None:
    deliverer: Deliverer | None = getattr(request.app.state, "webhooks", None)
    if deliverer is not None:
        deliverer.wake()


def _view(outbox: Outbox, subscription: Subscription) -> dict[str, Any]:
    counts = outbox.open_counts(subscription.webhook_id)
    head = outbox.head(subscription.webhook_id)
    return {
        "webhook_id": subscription.webhook_id,
        "url": subscription.url,
        "filters": {name: subscription.filters.get(name) for name in WebhookFilters.model_fields},
        "active": subscription.active,
        "disabled_reason": subscription.disabled_reason,
        "created_at": shanghai(subscription.created_at),
        "created_by": subscription.created_by,
        "queued_through": subscription.queued_through,
        "waiting": counts[WAITING],
        "given_up": counts[GIVEN_UP],
        "attempts": 0 if head is None else head.attempts,
        "next_attempt": None if head is None else shanghai(head.next_attempt),
        "last_error": None if head is None else head.last_error,
    }


@router.post(
    "/webhooks",
    summary="Subscribe 新建推送订阅",
    response_model=CreatedWebhook,
    status_code=201,
    responses={201: {"headers": {"Location": {"schema": {"type": "string"}}}}},
)
def add_webhook(
    request: Request,
    caller: Annotated[Caller, Depends(require(Role.OFFICER))],
    asked: Annotated[NewWebhook, Body()],
) -> Response:
    """Have findings sent to an address: signed, in order, again until they arrive.

    `docs/webhooks-and-stream.md` of the project says how to check the signature.
    """
    limits = WebhookLimits.of(settings_of(request))
    try:
        check_url(asked.url, limits.allowed)
    except RefusedAddressError as refused:
        raise invalid("body.url", str(refused), refused.zh) from None
    check_detectors(host_of(request), asked.filters.detector, "body.filters.detector")
    outbox = _outbox(request)
    if len(outbox.all()) >= limits.most:
        raise Problem(
            409,
            "conflict",
            detail=f"there are {limits.most} webhooks, which is all there may be",
            detail_zh=f"已有 {limits.most} 个推送订阅，达到上限",
        )
    last = host_of(request).findings.last_number()
    if asked.after is not None and asked.after > last:
        raise invalid("body.after", f"the last finding is number {last}", f"最新线索编号为 {last}")
    subscription = Subscription(
        webhook_id=f"wh-{secrets.token_hex(6)}",
        url=asked.url,
        secret=secrets.token_hex(16),  # the salt that the secret is derived from
        filters=asked.filters.model_dump(exclude_none=True),
        created_at=dt.datetime.now(dt.UTC),
        created_by=caller.name,
        queued_through=last if asked.after is None else asked.after,
    )
    outbox.add(subscription)
    _wake(request)
    record(request, "webhook.add", subscription.webhook_id, url=asked.url)
    made = secrets_of(settings_of(request)).of(subscription.webhook_id, subscription.secret)
    return _answers.json_answer(
        _view(outbox, subscription) | {"secret": made},
        status=201,
        headers={
            "Location": f"/v1/webhooks/{subscription.webhook_id}",
            "Cache-Control": "no-store",
        },
    )


@router.get("/webhooks", summary="List subscriptions 推送订阅列表", response_model=Webhooks)
def list_webhooks(
    request: Request, _caller: Annotated[Any, Depends(require(Role.OFFICER))]
) -> Response:
    """Return all subscriptions, oldest first, and how their deliveries go."""
    outbox = _outbox(request)
    record(request, "webhook.list")
    return _answers.json_answer({"webhooks": [_view(outbox, one) for one in outbox.all()]})


@router.get(
    "/webhooks/{webhook_id}", summary="One subscription 一个推送订阅", response_model=WebhookView
)
def get_webhook(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.OFFICER))],
    webhook_id: WebhookId,
) -> Response:
    """Return a subscription and how its deliveries go."""
    subscription = _subscription(request, webhook_id)
    record(request, "webhook.read", webhook_id)
    return _answers.json_answer(_view(_outbox(request), subscription))


@router.patch(
    "/webhooks/{webhook_id}",
    summary="Pause or resume 暂停或恢复推送",
    response_model=WebhookView,
)
def change_webhook(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.OFFICER))],
    webhook_id: WebhookId,
    asked: Annotated[WebhookChange, Body()],
) -> Response:
    """Pause deliveries, or resume them: also where a receiver answered 410 and comes back."""
    if not _outbox(request).set_active(webhook_id, asked.active):
        raise not_found(f"There is no webhook {webhook_id}.", f"没有推送订阅 {webhook_id}。")
    record(request, "webhook.change", webhook_id, active=asked.active)
    _wake(request)
    return _answers.json_answer(_view(_outbox(request), _subscription(request, webhook_id)))


@router.delete(
    "/webhooks/{webhook_id}",
    summary="Unsubscribe 删除推送订阅",
    status_code=204,
    response_class=Response,
)
def remove_webhook(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.OFFICER))],
    webhook_id: WebhookId,
) -> Response:
    """End a subscription. Deliveries that wait are not made any more."""
    if not _outbox(request).remove(webhook_id):
        raise not_found(f"There is no webhook {webhook_id}.", f"没有推送订阅 {webhook_id}。")
    record(request, "webhook.remove", webhook_id)
    _wake(request)
    return Response(status_code=204)


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="Deliveries of a subscription 推送记录",
    response_model=DeliveriesPage,
)
def list_deliveries(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.OFFICER))],
    webhook_id: WebhookId,
    state: Annotated[
        Literal["waiting", "delivered", "given_up"] | None,
        Query(description="`given_up`: the dead letters."),
    ] = None,
    limit: _paging.LimitQuery = 100,
    cursor: _paging.CursorQuery = None,
) -> Response:
    """Return deliveries, newest first; those that arrived are kept for some time."""
    _subscription(request, webhook_id)
    stated = {"webhook_id": webhook_id, "state": state}
    position = _paging.decode_cursor(LISTING, stated, cursor, (int,))
    rows, last = _outbox(request).deliveries(
        webhook_id, position[0] if position else None, limit, state=state
    )
    following = None if last is None else _paging.encode_cursor(LISTING, stated, [last])
    record(request, "webhook.deliveries", webhook_id, found=len(rows))
    page = {"deliveries": [_delivery(row) for row in rows], "next_cursor": following}
    return _answers.json_answer(page, headers=_paging.next_link(request, following))


@router.post(
    "/webhooks/{webhook_id}/deliveries/{number}/retry",
    summary="Try a dead letter again 重新推送",
    status_code=202,
    response_model=WebhookView,
)
def retry_delivery(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.OFFICER))],
    webhook_id: WebhookId,
    number: Annotated[int, Path(ge=1, lt=2**63, description="Of the delivery.")],
) -> Response:
    """Queue a delivery that was given up once more; being older, it goes before what waits."""
    subscription = _subscription(request, webhook_id)
    outbox = _outbox(request)
    dead = outbox.deliveries(webhook_id, number + 1, 1, state=GIVEN_UP)[0]
    if not dead or dead[0].number != number:
        raise not_found(
            f"The webhook has no delivery {number} that was given up.",
            f"该订阅没有已放弃的推送 {number}。",
        )
    outbox.try_again(number, dt.datetime.now(dt.UTC))
    record(request, "webhook.retry", webhook_id, delivery=number)
    _wake(request)
    return _answers.json_answer(_view(outbox, subscription), status=202)


def _delivery(row: Delivery) -> Mapping[str, Any]:
    return {
        "number": row.number,
        "delivery_id": delivery_id(row),
        "state": row.state,
        "attempts": row.attempts,
        "created_at": shanghai(row.created_at),
        "next_attempt": shanghai(row.next_attempt) if row.state == WAITING else None,
        "done_at": shanghai(row.done_at),
        "last_error": row.last_error,
    }

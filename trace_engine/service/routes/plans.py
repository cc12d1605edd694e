"""Sampling plans: whom to sample next for a budget; made, kept and shown again."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request, Response
from pydantic import ConfigDict, Field

from trace_engine.sampling.planning import SAMPLING_PLAN
from trace_engine.service.access import Caller, Role, require
from trace_engine.service.deps import host_of, ready_host_of, record
from trace_engine.service.routes import _answers, _paging
from trace_engine.service.routes._checks import last_day, too_late, unusable
from trace_engine.service.routes._found import not_found
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import Number, Page, Shape, shanghai
from trace_engine.store.plans import PlanStore

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["sampling plans"])

LISTING = "sampling-plans"
MOST_BUDGET = 100_000  # samples
MEDIA = (_answers.JSON, _answers.CSV)
CSV_TOO: dict[str, Any] = {
    "content": {
        _answers.JSON: {},
        _answers.CSV: {
            "schema": {"type": "string", "description": "The lines, as `sampling_plan.csv`"}
        },
    }
}


class PlanRequest(Shape):
    """What a plan is asked for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"budget": 100, "seed": 20260401}]}
    )

    budget: Annotated[int, Field(ge=0, le=MOST_BUDGET), Number] = Field(description="Samples.")
    seed: Annotated[int, Field(ge=0, lt=2**63), Number] = Field(
        0, description="Of the random arm: the same seed gives the same draw."
    )
    as_of: Annotated[dt.date, Field(ge=dt.date(2000, 1, 1), le=dt.date(2100, 12, 31))] | None = (
        Field(
            None,
            description="The plan's day; by default the day of the last event judged. Tomorrow at "
            "the latest, or the day after the latest day of the data if that is later.",
        )
    )


class PlanLine(Shape):
    """One sample: whom, what, how, why, by when (columns of `sampling_plan.csv`)."""

    sequence: int
    arm: str = Field(description="`risk` or `random`.")
    enterprise_id: str
    name: str | None
    uscc: str | None
    licence_no: str | None
    type: str | None
    region: str | None
    address: str | None
    platform_id: str | None
    shop_id: str | None
    shop_name: str | None
    shop_url: str | None
    drug_id: str | None
    generic_name: str | None
    approval_no: str | None
    pack_spec: str | None
    batch_no: str | None
    codes: list[str] | None
    channel: str | None
    method: str | None
    method_zh: str | None
    method_en: str | None
    quantity: int | None = Field(description="Smallest packs.")
    why_zh: str | None
    why_en: str | None
    finding_ids: list[str] | None
    rank: int | None
    score: float | None
    tier: str | None
    value: float | None = Field(description="What the allocation went by.")
    inclusion_probability: float | None
    seed: int
    responsible_bureau: str | None
    responsible_bureau_en: str | None
    due_date: dt.date | None
    due_date_basis: str | None


class PlanEntry(Shape):
    """A plan in the list of plans."""

    plan_id: str
    made_at: dt.datetime
    made_by: str = Field(description="Name of the key that asked for it.")


class Plan(PlanEntry):
    """A plan as it was made."""

    budget: int
    seed: int
    as_of: dt.date | None = Field(description="As asked for; null: the day of the last event.")
    closed_through: dt.date | None = Field(description="The last day whose events it takes in.")
    policy_version: str
    samples: int = Field(description="Lines; fewer than the budget where nobody is left.")
    lines: list[PlanLine]


class PlansPage(Page):
    """A page of plans, newest first, without their lines."""

    plans: list[PlanEntry]


@router.post(
    "/sampling-plans",
    summary="Make a sampling plan 生成抽检计划",
    response_model=Plan,
    status_code=201,
    responses={
        201: {
            "description": "The plan, which is kept",
            "headers": {"Location": {"schema": {"type": "string"}}},
            **CSV_TOO,
        }
    },
)
def make_plan(
    request: Request,
    caller: Annotated[Caller, Depends(require(Role.OFFICER))],
    asked: Annotated[PlanRequest, Body()],
) -> Response:
    """Plan samples for a budget from the findings so far, as `trace-engine plan` does.

    The same findings, budget, seed and day give the same lines.
    """
    media = _answers.negotiate(request, MEDIA)
    host = ready_host_of(request)
    if asked.as_of is not None and asked.as_of > (limit := last_day(host)):
        raise unusable([too_late("body.as_of", limit)])
    table = host.plan(asked.budget, asked.seed, asked.as_of)
    document = {
        "budget": asked.budget,
        "seed": asked.seed,
        "as_of": asked.as_of,
        "closed_through": host.status().closed_through,
        "policy_version": str(host.policy.version),
        "samples": table.num_rows,
        "lines": table.to_pylist(),
    }
    store = PlanStore(host.database)
    plan_id = f"plan-{secrets.token_hex(8)}"
    store.add(plan_id, document, caller.name)
    plan = store.get(plan_id)
    if plan is None:
        raise RuntimeError("a plan that was just stored is gone")
    record(
        request,
        "plan.make",
        plan_id,
        budget=asked.budget,
        seed=asked.seed,
        as_of=None if asked.as_of is None else asked.as_of.isoformat(),
        samples=table.num_rows,
    )
    return _plan_answer(media, plan, 201, {"Location": f"/v1/sampling-plans/{plan_id}"})


@router.get(
    "/sampling-plans",
    summary="List sampling plans 抽检计划列表",
    response_model=PlansPage,
)
def list_plans(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    limit: _paging.LimitQuery = 100,
    cursor: _paging.CursorQuery = None,
) -> Response:
    """Return the plans made so far, newest first."""
    position = _paging.decode_cursor(LISTING, {}, cursor, (int,))
    rows, last = PlanStore(host_of(request).database).page(position[0] if position else None, limit)
    following = None if last is None else _paging.encode_cursor(LISTING, {}, [last])
    record(request, "plan.list", found=len(rows))
    page = {"plans": [_entry(row) for row in rows], "next_cursor": following}
    return _answers.json_answer(page, headers=_paging.next_link(request, following))


@router.get(
    "/sampling-plans/{plan_id}",
    summary="One sampling plan 一份抽检计划",
    response_model=Plan,
    responses={200: {"description": "The plan as it was made", **CSV_TOO}},
)
def get_plan(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    plan_id: Annotated[
        str,
        Path(max_length=100, pattern=r"^[A-Za-z0-9_.:-]+$", examples=["plan-6f1d0c7f2b8a4a31"]),
    ],
) -> Response:
    """Return a plan as it was made; findings that came later do not change it."""
    media = _answers.negotiate(request, MEDIA)
    plan = PlanStore(host_of(request).database).get(plan_id)
    if plan is None:
        raise not_found(f"There is no plan {plan_id}.", f"没有抽检计划 {plan_id}。")
    record(request, "plan.read", plan_id)
    return _plan_answer(media, plan, 200, {})


def _entry(plan: Mapping[str, Any]) -> dict[str, Any]:
    entry = {name: plan[name] for name in PlanEntry.model_fields}
    return entry | {"made_at": shanghai(plan["made_at"])}


def _plan_answer(
    media: str, plan: Mapping[str, Any], status: int, headers: Mapping[str, str]
) -> Response:
    document = plan["document"]
    if media == _answers.JSON:
        return _answers.json_answer(
            _entry(plan) | document, status=status, headers={**headers, "Vary": "Accept"}
        )
    named = {**headers, "X-Plan-Id": str(plan["plan_id"])}
    answer = _answers.rows_answer(
        media, document["lines"], SAMPLING_PLAN.names, headers=named, name="sampling_plan"
    )
    answer.status_code = status
    return answer

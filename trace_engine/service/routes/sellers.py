"""The ranking of sellers: whom to look at first, and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import ConfigDict, Field

from trace_engine.service.access import Role, require
from trace_engine.service.deps import host_of, record
from trace_engine.service.routes import _answers, _paging
from trace_engine.service.routes._found import listing, not_found
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import (
    SHANGHAI,
    Finding,
    Page,
    RegionQuery,
    Shape,
    finding_document,
    region_prefix,
    shanghai,
)
from trace_engine.store.findings_table import FindingFilters

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["sellers"])

LISTING = "sellers"
EnterpriseKind = Literal[
    "mah", "manufacturer", "wholesaler", "chain_hq", "chain_store", "pharmacy", "medical",
    "public_hospital", "platform", "logistics",
]  # fmt: skip
CONTRIBUTION, COUNT = "contribution_", "n_"
TAG = {"ETag": {"description": "Changes with the ranking", "schema": {"type": "string"}}}
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The ranking that `If-None-Match` names still stands", "headers": TAG}
}


class Seller(Shape):
    """One line of the ranking (`docs/ranking.md` of the project says how it is made)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "rank": 1,
                    "enterprise_id": "91370100MA3C0X0X0X",
                    "name": "济南某某医药有限公司",
                    "type": "wholesaler",
                    "region": "370102",
                    "registered": True,
                    "score": 0.93,
                    "tier": "D",
                    "events": 5120,
                    "packs_received": 2400,
                    "packs_shipped": 2300,
                    "packs_sold": 0,
                    "packs_sold_online": 0,
                    "sales_value": 80311.5,
                    "first_time": "2026-01-02T08:00:00+08:00",
                    "last_time": "2026-03-31T17:20:00+08:00",
                    "findings_violation": 12,
                    "findings_data_quality": 3,
                    "amount": 20117.0,
                    "findings_by_detector": {"repeated_transfer": 12},
                    "contributions": {"custody": 0.91, "baseline": 0.02},
                    "past_violations": 0,
                    "reasons_zh": "流转：多次倒手（12）",
                    "reasons_en": "custody: Repeated transfer (12)",
                }
            ]
        },
    )

    rank: int = Field(ge=1)
    enterprise_id: str
    name: str | None
    type: str | None
    region: str | None = Field(description="GB/T 2260")
    registered: bool = Field(description="Whether the registry knows it.")
    score: float = Field(ge=0, le=1)
    tier: Literal["A", "B", "C", "D"] = Field(description="D is the highest risk.")
    events: int
    packs_received: int
    packs_shipped: int
    packs_sold: int
    packs_sold_online: int
    sales_value: float | None = Field(description="CNY")
    first_time: dt.datetime | None
    last_time: dt.datetime | None
    findings_violation: int
    findings_data_quality: int
    amount: float | None = Field(description="CNY at stake in suspected violations.")
    findings_by_detector: dict[str, int]
    contributions: dict[str, float] = Field(description="By kind of evidence; add up to `score`.")
    past_violations: int
    reasons_zh: str | None
    reasons_en: str | None


class AsOf(Shape):
    """What a ranking stands on."""

    made_at: dt.datetime = Field(description="When the ranking was made.")
    closed_through: dt.date | None = Field(description="The last day it takes in.")


class SellersPage(Page, AsOf):
    """A page of the ranking."""

    sellers: list[Seller]
    total: int = Field(description="Sellers that the filters let through.")
    ranking_changed: bool = Field(
        description="The ranking was made anew since the page before: sellers may have moved "
        "between pages."
    )


class SellerDetail(AsOf):
    """One seller with what was found about it last."""

    seller: Seller
    findings: list[Finding] = Field(description="The latest ones, newest first.")


@router.get(
    "/sellers",
    summary="Ranking of sellers 企业风险排名",
    response_model=SellersPage,
    responses=listing(SellersPage, Seller, "A page of the ranking") | UNCHANGED,
)
def list_sellers(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    region: RegionQuery = None,
    type: Annotated[  # noqa: A002 - the name of the column
        list[EnterpriseKind] | None,
        Query(description="One or more types of enterprise."),
    ] = None,
    tier: Annotated[list[Literal["A", "B", "C", "D"]] | None, Query()] = None,
    limit: _paging.LimitQuery = 100,
    cursor: _paging.CursorQuery = None,
) -> Response:
    """Return sellers by rank, as JSON, NDJSON or CSV (columns of `sellers.csv`) by `Accept`.

    The ranking is refreshed in the background while events come in; `made_at` and
    `closed_through` say what it stands on. Answers carry an `ETag`.
    """
    media = _answers.negotiate(request, (_answers.JSON, _answers.NDJSON, _answers.CSV))
    stated = {"region": region, "type": type, "tier": tier}
    position = _paging.decode_cursor(LISTING, stated, cursor, (int, str))
    ranking = host_of(request).ranking()
    record(request, "seller.list", **{k: str(v) for k, v in stated.items() if v is not None})
    made = repr(ranking.made_at)
    tag = _answers.entity_tag(made, str(ranking.closed_through), stated, limit, cursor, media)
    if (same := _answers.unchanged(request, tag)) is not None:
        return same
    chosen = _chosen(ranking.table, region_prefix(region), type, tier)
    after = position[0] if position else 0
    rest = chosen.filter(pc.greater(chosen.column("rank"), after))
    rows = rest.slice(0, limit)
    following = None
    if rest.num_rows > limit:
        last = int(rows.column("rank")[-1].as_py())
        following = _paging.encode_cursor(LISTING, stated, [last, made])
    headers = {**_paging.next_link(request, following), "ETag": tag}
    if media == _answers.CSV:
        return _answers.rows_answer(
            media, rows.to_pylist(), rows.column_names, headers=headers, name="sellers"
        )
    documents = seller_documents(rows)
    if media == _answers.NDJSON:
        return _answers.rows_answer(media, documents, (), headers=headers, name="sellers")
    page = {
        "sellers": documents,
        "total": chosen.num_rows,
        "made_at": dt.datetime.fromtimestamp(ranking.made_at, SHANGHAI),
        "closed_through": ranking.closed_through,
        "ranking_changed": position is not None and position[1] != made,
        "next_cursor": following,
    }
    return _answers.json_answer(page, headers={**headers, "Vary": "Accept"})


@router.get(
    "/sellers/{enterprise_id}",
    summary="One seller 一家企业",
    response_model=SellerDetail,
    responses={200: {"headers": TAG}, **UNCHANGED},
)
def get_seller(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    enterprise_id: Annotated[
        str, Path(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["91370100MA3C0X0X0X"])
    ],
    findings: Annotated[int, Query(ge=0, le=200, description="How many of the latest.")] = 50,
) -> Response:
    """Return a seller's line of the ranking, what its score is made of, and its latest findings."""
    host = host_of(request)
    ranking = host.ranking()
    at = pc.index(ranking.table.column("enterprise_id"), pa.scalar(enterprise_id)).as_py()
    if at < 0:
        raise not_found(
            f"The ranking holds no enterprise {enterprise_id}.", f"排名中没有企业 {enterprise_id}。"
        )
    record(request, "seller.read", enterprise_id)
    latest: list[dict[str, Any]] = []
    if findings:
        filters = FindingFilters(subject_id=enterprise_id)
        latest = host.findings.page(filters, None, findings)[0]
    newest = latest[0]["number"] if latest else None
    tag = _answers.entity_tag(ranking.made_at, enterprise_id, findings, newest)
    if (same := _answers.unchanged(request, tag)) is not None:
        return same
    detail = {
        "seller": seller_documents(ranking.table.slice(at, 1))[0],
        "findings": [finding_document(row) for row in latest],
        "made_at": dt.datetime.fromtimestamp(ranking.made_at, SHANGHAI),
        "closed_through": ranking.closed_through,
    }
    return _answers.json_answer(detail, headers={"ETag": tag})


def _chosen(
    table: pa.Table, region: str | None, types: Sequence[str] | None, tiers: Sequence[str] | None
) -> pa.Table:
    for column, values in (("type", types), ("tier", tiers)):
        if values is not None:
            table = table.filter(pc.is_in(table.column(column), value_set=pa.array(values)))
    if region is not None:
        inside = pc.starts_with(table.column("region"), region)
        table = table.filter(pc.fill_null(inside, False))
    return table


def seller_documents(rows: pa.Table) -> list[dict[str, Any]]:
    """Return lines of the ranking as JSON objects: contributions and counts as objects."""
    plain = [n for n in rows.column_names if not n.startswith((CONTRIBUTION, COUNT))]
    parts = [n for n in rows.column_names if n.startswith(CONTRIBUTION)]
    documents: list[dict[str, Any]] = rows.select(plain).to_pylist()
    shares = rows.select(parts).to_pylist()
    for document, share in zip(documents, shares, strict=True):
        document["findings_by_detector"] = msgspec.Raw(document["findings_by_detector"].encode())
        document["contributions"] = {
            name.removeprefix(CONTRIBUTION): value for name, value in share.items()
        }
        for name in ("first_time", "last_time"):
            document[name] = shanghai(document[name])
    return documents

"""Who deals with whom: the supply graph around an enterprise."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ConfigDict, Field

from trace_engine.service.access import Role, require
from trace_engine.service.deps import host_of, record
from trace_engine.service.routes import _answers
from trace_engine.service.routes._found import invalid, not_found
from trace_engine.service.routes._query import StrictRoute
from trace_engine.service.routes._shapes import Day, Shape, Text

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["graph"])


class Node(Shape):
    """An enterprise of the neighbourhood."""

    enterprise_id: str
    name: str | None
    region: str | None = Field(description="GB/T 2260")


class Edge(Shape):
    """Trade of one drug from one enterprise to another."""

    source_id: str | None
    target_id: str | None
    drug_id: str | None
    type: str | None = Field(description="`sale`, `return`, `internal` (within a group), ...")
    drug_name: str | None
    codes: int
    packs: int
    value: float | None = Field(description="CNY, where priced.")
    first_time: dt.datetime
    last_time: dt.datetime


class Neighbourhood(Shape):
    """Enterprises within `depth` steps and the trade among them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "enterprise_id": "91370100MA3C0X0X0X",
                    "nodes": [
                        {
                            "enterprise_id": "91370100MA3C0X0X0X",
                            "name": "济南某某医药有限公司",
                            "region": "370102",
                        },
                        {"enterprise_id": "P1", "name": "某某药店", "region": "370103"},
                    ],
                    "edges": [
                        {
                            "source_id": "91370100MA3C0X0X0X",
                            "target_id": "P1",
                            "drug_id": "8123456",
                            "type": "sale",
                            "drug_name": "布洛芬缓释胶囊",
                            "codes": 40,
                            "packs": 40,
                            "value": 512.0,
                            "first_time": "2026-03-01T09:30:00+08:00",
                            "last_time": "2026-03-20T16:05:00+08:00",
                        }
                    ],
                    "left_out": 0,
                }
            ]
        },
    )

    enterprise_id: str
    nodes: list[Node]
    edges: list[Edge] = Field(description="The largest first.")
    left_out: int = Field(description="Smaller edges beyond `limit`.")


@router.get(
    "/graph",
    summary="Neighbourhood of an enterprise 企业购销网络",
    response_model=Neighbourhood,
    responses={
        200: {
            "description": "Nodes and edges",
            "content": {
                _answers.JSON: {},
                _answers.GRAPHML: {"schema": {"type": "string", "description": "GraphML"}},
            },
        }
    },
)
def get_graph(
    request: Request,
    _caller: Annotated[Any, Depends(require(Role.READ))],
    enterprise: Annotated[Text, Query(description="Id of the enterprise in the middle.")],
    depth: Annotated[int, Query(ge=1, le=5, description="Steps, in any direction.")] = 1,
    drug: Annotated[Text | None, Query(description="Only this drug.")] = None,
    since: Annotated[Day | None, Query(description="First day.")] = None,
    until: Annotated[Day | None, Query(description="Last day, which counts.")] = None,
    limit: Annotated[int, Query(ge=1, le=20_000, description="Most edges.")] = 2000,
) -> Response:
    """Return who traded with an enterprise and among each other: JSON, or GraphML by `Accept`."""
    media = _answers.negotiate(request, (_answers.JSON, _answers.GRAPHML))
    if since is not None and until is not None and until < since:
        raise invalid("query.until", "is before since", "早于 since")
    found = host_of(request).neighbourhood(
        enterprise, depth=depth, drug=drug, since=since, until=until, most=limit
    )
    record(request, "graph.read", enterprise, depth=depth, known=found is not None)
    if found is None:
        raise not_found(
            f"No event names the enterprise {enterprise}.", f"没有企业 {enterprise} 的记录。"
        )
    if media == _answers.GRAPHML:
        return Response(
            graphml(found),
            200,
            {
                "Vary": "Accept",
                "Content-Disposition": 'attachment; filename="supply-graph.graphml"',
            },
            _answers.GRAPHML,
        )
    return _answers.json_answer(found, headers={"Vary": "Accept"})


def graphml(found: Mapping[str, Any]) -> bytes:
    """Return a neighbourhood as GraphML, for Gephi, yEd and networkx."""
    import networkx as nx

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for node in found["nodes"]:
        values = _attributes(node)
        graph.add_node(values.pop("enterprise_id"), **values)
    for edge in found["edges"]:
        values = _attributes(edge)
        source, target = values.pop("source_id"), values.pop("target_id")
        graph.add_edge(source, target, **values)
    return "\n".join(nx.generate_graphml(graph)).encode()


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what GraphML can hold: no nulls, times as text, no control characters."""
    from trace_engine.reports.graphml import xml_text

    kept: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (dt.datetime, dt.date)):
            kept[name] = value.isoformat()
        elif isinstance(value, str):
            kept[name] = xml_text(value)
        elif isinstance(value, (bool, int, float)):
            kept[name] = value
    return kept

"""Traces as documents: plain data ready for JSON, for machines and for the texts made of them.

Keys are the same in every language; ids stand beside names, times are ``YYYY-MM-DD HH:MM:SS`` of
the Shanghai wall clock (a date where only the day is known), amounts CNY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trace_engine.events.batch import DAY
from trace_engine.evidence.paths import time_text
from trace_engine.graph.trace import Reach
from trace_engine.tracing.batch import COUNTS, PLACES, UNACCOUNTED, province_rows

if TYPE_CHECKING:
    from trace_engine.engine import Engine
    from trace_engine.tracing.batch import BatchTrace
    from trace_engine.tracing.code import CodeTrace
    from trace_engine.tracing.enterprise import EnterpriseTrace, Partner

Document = dict[str, Any]
DIRECTIONS = ("forward", "backward", "both")
FORWARD, BACKWARD, BOTH = DIRECTIONS


def moment(time: int | None) -> str | None:
    """Return a time in µs as text, None for None."""
    return None if time is None else time_text(time, time % DAY == 0)


def _end(time: int | None) -> str | None:
    """Return the last day of a period, which ends with that day."""
    return None if time is None else time_text(time // DAY * DAY, True)


def _enterprise(engine: Engine, party: int) -> Document:
    view = engine.view
    code = view.party_region_code(party)
    known = party >= 0 and bool(view.party_known[party])
    return {
        "enterprise_id": engine.vocabulary.parties.text(party),
        "name": view.party_text(party, "name") if known else "",
        "type": view.party_text(party, "type") if known else "",
        "region": code,
    }


def batch_document(found: BatchTrace, engine: Engine, direction: str = BOTH) -> Document:
    """Return the trace of a batch as a document."""
    complete: Document = dict(found.completeness)
    total = found.completeness["movements"]
    complete["linked_share"] = round(found.completeness["linked"] / total, 6) if total else None
    document: Document = {
        "trace": "batch",
        "direction": direction,
        "drug_id": engine.vocabulary.drugs.text(found.drug),
        "drug_name": engine.view.drug_name(found.drug),
        "batch_no": found.batch,
        "codes": found.codes,
        "packs": found.packs,
        "from": moment(found.begin),
        "to": _end(found.end),
        "first_time": moment(found.first) if found.codes else None,
        "last_time": moment(found.last) if found.codes else None,
        "completeness": complete,
    }
    parent = {party: (level, above) for party, level, above in found.tree}
    if direction != BACKWARD:
        document["places"] = dict(found.places)
        document["places_in_packs"] = dict(found.place_packs)
        document["unaccounted"] = sum(found.places[PLACES[p]] for p in UNACCOUNTED)
        document["sold_again"] = found.sold_again
        document["provinces"] = province_rows(found, engine.view)
        document["enterprises"] = [
            _enterprise(engine, party)
            | {"level": level}
            | {name: found.parties[party][name] for name in COUNTS}
            | {
                end: moment(found.parties[party].get(end[:-5]))
                for end in ("first_time", "last_time")
            }
            | {"from_id": engine.vocabulary.parties.text(above)}
            for party, (level, above) in parent.items()
        ]
        names = engine.vocabulary.parties.text
        document["flows"] = [
            {
                "from_id": names(flow.source),
                "to_id": names(flow.target),
                "type": flow.type,
                "codes": flow.packs,
                "only_shipped": flow.unreceived,
                "only_received": flow.unshipped,
                "first_time": moment(flow.first),
                "last_time": moment(flow.last),
            }
            for flow in found.flows
        ]
    if direction != FORWARD:
        document["origins"] = [
            _enterprise(engine, party) | {"how": how, "codes": codes, "first_time": moment(first)}
            for party, how, codes, first in found.origins
        ]
    return document


def _partner(engine: Engine, partner: Partner) -> Document:
    return _enterprise(engine, partner.party) | {
        "type_of_flow": partner.type,
        "drugs": partner.drugs,
        "codes": partner.codes,
        "packs": partner.packs,
        "value": partner.value / 100,
        "first_time": moment(partner.first),
        "last_time": moment(partner.last),
    }


def _reach(engine: Engine, found: Reach) -> list[Document]:
    rows = zip(
        found.party.tolist(), found.hops.tolist(), found.time.tolist(), found.drugs.tolist(),
        strict=True,
    )  # fmt: skip
    return [
        _enterprise(engine, party) | {"hops": hops, "time": moment(time), "drugs": drugs}
        for party, hops, time, drugs in rows
    ]


def enterprise_document(found: EnterpriseTrace, engine: Engine, direction: str = BOTH) -> Document:
    """Return the trace of an enterprise as a document."""
    document: Document = {
        "trace": "enterprise",
        "direction": direction,
        **_enterprise(engine, found.party),
        "drug_id": None if found.drug is None else engine.vocabulary.drugs.text(found.drug),
        "from": moment(found.begin),
        "to": _end(found.end),
        "edges_by_month": found.folded,
    }
    if direction != FORWARD:
        document["upstream"] = [_partner(engine, p) for p in found.upstream]
        document["can_come_from"] = _reach(engine, found.reached_from)
    if direction != BACKWARD:
        document["downstream"] = [_partner(engine, p) for p in found.downstream]
        document["can_have_reached"] = _reach(engine, found.reached)
    return document


def code_document(found: CodeTrace, engine: Engine, direction: str = BOTH) -> Document:
    """Return the trace of a code as a document."""
    document: Document = {
        "trace": "code",
        "direction": direction,
        "code": found.code,
        "drug_id": engine.vocabulary.drugs.text(found.drug),
        "drug_name": engine.view.drug_name(found.drug),
        "batch_no": found.batch,
        "events_voided": found.voided,
        "path": found.path,
    }
    if direction != BACKWARD:
        document["place"] = found.place
        document["at"] = _enterprise(engine, found.party) if found.party >= 0 else None
        document["coming_from"] = _enterprise(engine, found.giver) if found.giver >= 0 else None
        document["sales"] = found.sales
        document["recalled"] = found.recalled
        document["contents"] = found.contents
        document["contents_known"] = found.contents_known
    if direction != FORWARD:
        document["parents"] = found.parents
    return document

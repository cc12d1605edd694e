"""An enterprise's partners, and whom its goods can have reached or have come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trace_engine.core.records import Records
from trace_engine.graph.multigraph import TYPE_NAMES
from trace_engine.graph.selection import Selection, without_echo
from trace_engine.graph.trace import Reach, reach

if TYPE_CHECKING:
    from trace_engine.engine import Engine


@dataclass(frozen=True)
class Partner:
    """What went between an enterprise and one partner, in one direction and one type."""

    party: int
    type: str
    drugs: int
    codes: int
    packs: int
    value: int  # fen
    first: int  # µs
    last: int


@dataclass(frozen=True)
class EnterpriseTrace:
    """The trace of an enterprise. ``folded``: edges of which only the month is still known."""

    party: int
    drug: int | None
    begin: int | None
    end: int | None
    upstream: list[Partner]
    downstream: list[Partner]
    reached_from: Reach
    reached: Reach
    folded: int


def trace_enterprise(
    engine: Engine, party: int, drug: int | None, begin: int | None, end: int | None
) -> EnterpriseTrace:
    """Return partners and reach of ``party``, of one drug (None: each by itself) and period."""
    drugs = None if drug is None else np.array([drug], np.int32)
    edges = Selection(drugs=drugs, begin=begin, end=end).of(engine.supply_edges())
    told = without_echo(edges)
    return EnterpriseTrace(
        party=party,
        drug=drug,
        begin=begin,
        end=end,
        upstream=_partners(told[told["target"] == party], "source"),
        downstream=_partners(told[told["source"] == party], "target"),
        reached_from=reach(edges, party, backwards=True, begin=begin, end=end),
        reached=reach(edges, party, begin=begin, end=end),
        folded=int(
            ((told["folded"] == 1) & ((told["source"] == party) | (told["target"] == party))).sum()
        ),
    )


def _partners(edges: Records, other: str) -> list[Partner]:
    """Return edges summed by partner and type, most packs first."""
    found = []
    key = edges[other].astype(np.int64) * 16 + edges["type"]
    for value in np.unique(key).tolist():
        some = edges[key == value]
        found.append(
            Partner(
                party=value // 16,
                type=TYPE_NAMES[value % 16],
                drugs=len(np.unique(some["drug"])),
                codes=int(some["codes"].sum()),
                packs=int(some["packs"].sum()),
                value=int(some["value"].sum()),
                first=int(some["first"].min()),
                last=int(some["last"].max()),
            )
        )
    return sorted(found, key=lambda p: (-p.packs, p.party, p.type))

"""Territory breach 窜货 (G18): a drug sold outside the territory it is allotted to.

Definition
----------
Needs ``registry.territories`` (else sales are skipped as ``no_territories``). A row of that table allots
a drug, from ``valid_from`` to ``valid_to``, to an enterprise, to a region, or to an enterprise in a
region. A drug is *allotted* on a day if a row of it is valid then; others are nobody's territory.

Judged are, of allotted drugs, sales to enterprises (role ``SHIP``) with giver and receiver stated and
sales to persons (role ``PERSON_SALE``) with a giver stated; sales to persons online are left out
(``online_sale``: a buyer may live anywhere), so are sales by makers (MAH, manufacturer), which allot
themselves, between two enterprises of one group, and to oneself (not counted).

The *places* of a sale are those of the buyer: all premises and warehouses on record of the receiver
(``dispatch_regions``) and the ship-to region stated; of a sale to a person those of the giver. A sale
without a place is skipped as ``no_place``. A row *covers* a sale on its day (with the clock's doubt:
on any day it may have been) if

* it names no region, or one of the places lies in the region it names (as far as both are known: a
  place of which only the province is known lies in its cities), and
* it names no enterprise, or the giver, the receiver, or one of a group with either.

Rows that name an enterprise the registry does not know cover everything (whose they are cannot be told).

A sale no row covers is a breach, if there is a row that names a region, or else (all rows name only
enterprises) if it is a sale to an enterprise by a wholesaler: what retailers do with goods that reached
them lawfully is nobody's territory.

Cases (see ``_standing``) are kept apart by giver and drug; ``needed`` events make one. observed: events
of the case so far, threshold: ``needed`` - 1. Severity 0.3.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors._rights import PERSON_SALE, row_of
from trace_engine.detectors._standing import (
    advance_standing,
    days_at_least,
    hits_of_cases,
    new_standing_state,
    standing_rows,
)
from trace_engine.detectors.base import (
    ROLE_OF,
    Evidence,
    Family,
    Hits,
    KeyedDetector,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import ONLINE
from trace_engine.events.kinds import Role
from trace_engine.registry.channels import UNREGISTERED, Territories, region_levels
from trace_engine.registry.types import EnterpriseType

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

_MAKERS = [int(EnterpriseType.MAH), int(EnterpriseType.MANUFACTURER)]
FINE, BREACH, NO_PLACE, NOT_ALLOTTED = 0, 1, 2, 3


@kernel
def _judge(
    drug: Int32,
    giver: Int64,
    receiver: Int64,
    low: Int64,
    high: Int64,
    wholesale: npt.NDArray[np.bool_],
    place_offsets: Int64,
    places: npt.NDArray[np.int16],
    group: Int32,
    first: Int64,
    after: Int64,
    enterprise: Int32,
    region: npt.NDArray[np.int16],
    valid_from: Int32,
    valid_to: Int32,
    grain: npt.NDArray[np.int8],
    keys: Int32,
    out: npt.NDArray[np.int8],
) -> None:
    """Write what becomes of each sale; ``grain`` and ``keys`` are those of ``region_levels``.

    ``giver`` and ``receiver`` are rows of ``enterprises`` (-1 none), ``places`` region indices.
    """
    for i in range(len(drug)):
        allotted, covered, by_region = False, False, False
        begin, end = place_offsets[i], place_offsets[i + 1]
        for row in range(first[drug[i]], after[drug[i]]):
            if valid_from[row] > high[i] or valid_to[row] < low[i]:
                continue
            allotted = True
            by_region |= region[row] >= 0
            inside = region[row] < 0
            for place in range(begin, end):
                if not inside:
                    here, there = places[place], region[row]
                    level = min(grain[here], grain[there]) - 1
                    inside = keys[level, here] == keys[level, there]
            named = enterprise[row]
            meant = named < 0  # nobody is named, or somebody unknown
            for side in (giver[i], receiver[i]):
                if named >= 0 and side >= 0:
                    kin = group[side] >= 0 and group[side] == group[named]
                    meant |= side == named or kin
            if meant and (inside or named == UNREGISTERED):
                covered = True
                break
        if not allotted:
            out[i] = NOT_ALLOTTED
        elif covered:
            out[i] = FINE
        elif by_region and begin == end:
            out[i] = NO_PLACE
        else:
            out[i] = BREACH if by_region or wholesale[i] else FINE


class TerritoryBreachParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`TerritoryBreach`."""

    needed: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=10_000,
            description="Sales outside that show a flow and no slip",
            extra_json_schema={"unit": "events", "zh": "认定窜货所需的最少笔数"},
        ),
    ] = 3
    repeat_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=3660,
            description="When it is told again that the sales go on",
            extra_json_schema={"unit": "days", "zh": "持续窜货时再次提示的间隔天数"},
        ),
    ] = 30


class TerritoryBreach(KeyedDetector[TerritoryBreachParameters]):
    """Sales against the territories of their drugs."""

    id: ClassVar[str] = "territory_breach"
    title_zh: ClassVar[str] = "窜货"
    title_en: ClassVar[str] = "Sold outside its territory"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.REGION
    key: ClassVar[str] = "seller and drug"
    rows: ClassVar[tuple[str, ...]] = ("G18",)
    basis: ClassVar[str] = (
        "药品上市许可持有人授权销售区域（合同约定）；药品经营环节“清源”巩固提升行动（药监综药管"
        "〔2026〕22号）：流向异常"
    )
    unit: ClassVar[str] = "events"
    needs: ClassVar[tuple[str, ...]] = ("registry.territories", "registry.enterprises.region")
    false_positives: ClassVar[str] = (
        "Sales to persons online (left out), the holder's own sales (it allots the territories), "
        "national distributors moving goods inside their group (left out), warehouses of the "
        "buyer in the territory (count as its places), wrong places on single bills (several "
        "events are needed)."
    )
    false_positives_zh: ClassVar[str] = (
        "网上售予个人（不计）、持有人自行销售（由其划定区域）、全国性企业集团内部调拨（不计）、"
        "买方在授权区域内的仓库（视为其场所）、个别单据地点填错（须达一定笔数）。"
    )
    parameters: ClassVar[type[Parameters]] = TerritoryBreachParameters
    sentence_zh: ClassVar[str] = (
        "{subject}于{date}将{drug}销往授权区域之外（{place_region}），当日{events}笔、{packs}个最小包装，"
        "累计{observed:.0f}笔（追溯码{code}等）。"
    )
    sentence_en: ClassVar[str] = (
        "On {date} {subject} sold {drug} outside the territory it is allotted to ({place_region}): "
        "{events} event(s) and {packs} pack(s) that day, {observed:.0f} so far (code {code} and "
        "others)."
    )

    def select(self, data: Slice, parameters: TerritoryBreachParameters) -> tuple[Rows, Verdict]:
        """Return the sales outside territories, summed by seller, drug and day."""
        view, batch = data.registry, data.batch
        rows = data.rows_of(Role.SHIP, Role.PERSON_SALE)
        territories = view.territories
        nothing = np.empty(0, np.int64)
        if territories is None:
            empty = standing_rows(
                data, nothing, subject=nothing.astype(np.int32), cause=0, by_drug=True
            )
            empty["place_region"] = nothing.astype(np.int16)
            return empty, Verdict(skipped={"no_territories": len(rows)} if len(rows) else {})
        # One entry more, for an event that names no drug (-1).
        allotted = np.append(territories.after > territories.first, False)
        rows = rows[allotted[batch.drug[rows]]]
        person = ROLE_OF[batch.kind[rows]] == PERSON_SALE
        online = person & ((batch.flags[rows] & ONLINE) != 0)
        giver, receiver = batch.source[rows], batch.target[rows]
        stated = (giver >= 0) & (person | ((receiver >= 0) & (receiver != giver)))
        group = np.append(view.party_group, np.int32(-1))
        kin = ~person & (group[giver] >= 0) & (group[giver] == group[receiver])
        maker = np.isin(np.append(view.party_type, np.int8(0))[giver], _MAKERS)
        rows, person = (c[stated & ~online & ~kin & ~maker] for c in (rows, person))
        became = self._became(data, territories, rows, person)
        breach = became == BREACH
        wrong, person = rows[breach], person[breach]
        found = standing_rows(data, wrong, subject=batch.source[wrong], cause=0, by_drug=True)
        buyer = np.where(person, batch.source[wrong], batch.target[wrong])
        region = batch.target_region[wrong].copy()
        unsaid = person | (region < 0)
        region[unsaid] = view.party_region[buyer[unsaid]]
        lead = np.searchsorted(data.seq_base + wrong, found["seq"])
        found["place_region"] = region[lead]
        skipped = {
            "online_sale": int(np.count_nonzero(online & stated)),
            "no_place": int(np.count_nonzero(became == NO_PLACE)),
        }
        return found, Verdict(
            judged=int(np.count_nonzero((became == FINE) | breach)),
            skipped={reason: count for reason, count in skipped.items() if count},
        )

    @staticmethod
    def _became(
        data: Slice, territories: Territories, rows: Int64, person: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int8]:
        """Return what becomes of each sale (constants above), shape ``(m,)``."""
        view, batch = data.registry, data.batch
        giver, receiver = batch.source[rows], np.where(person, -1, batch.target[rows])
        buyer = np.where(person, giver, receiver)
        stated = np.where(person, np.int16(-1), batch.target_region[rows])
        offsets, places = _places(data, buyer, stated)
        low, high = days_at_least(data, rows)
        kind = view.party_type[giver]
        out = np.zeros(len(rows), np.int8)
        _judge(
            batch.drug[rows],
            row_of(data, giver),
            row_of(data, receiver.astype(np.int32)),
            low,
            high,
            ~person & (kind == int(EnterpriseType.WHOLESALER)),
            offsets,
            places,
            view.row_group,
            territories.first,
            territories.after,
            territories.enterprise,
            territories.region,
            territories.valid_from,
            territories.valid_to,
            *region_levels(),
            out,
        )
        return out

    def new_state(self) -> State:
        """Return empty state: what is known of each case."""
        return new_standing_state()

    def advance(
        self, rows: Rows, state: State, parameters: TerritoryBreachParameters, last_day: int
    ) -> Hits | None:
        """Tell each case once there is enough of it, and again while it goes on."""
        fired = advance_standing(rows, state, parameters.repeat_days, needed=parameters.needed)
        if fired is None:
            return None
        return hits_of_cases(
            fired.rows,
            observed=fired.so_far,
            threshold=parameters.needed - 1,
            severity=0.3,
            cause=0,
            extra={"place_region": fired.rows["place_region"]},
        )


def _places(
    data: Slice, buyer: Int32, stated: npt.NDArray[np.int16]
) -> tuple[Int64, npt.NDArray[np.int16]]:
    """Return the places of each buyer and the one stated, as offsets and region indices."""
    view = data.registry
    first, last = view.dispatch_offsets[buyer], view.dispatch_offsets[buyer + 1]
    known = last - first
    sizes = known + (stated >= 0)
    offsets = np.append(0, np.cumsum(sizes))
    places = np.empty(int(offsets[-1]), np.int16)
    at = np.arange(int(known.sum())) - np.repeat(np.cumsum(known) - known, known)
    places[np.repeat(offsets[:-1], known) + at] = view.dispatch_regions[
        np.repeat(first, known) + at
    ]
    places[(offsets[1:] - 1)[stated >= 0]] = stated[stated >= 0]
    return offsets, places

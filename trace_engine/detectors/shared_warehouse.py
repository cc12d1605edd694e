"""Shared warehouse 接受多家企业委托储存 (G12): one firm sends out the goods of many that entrusted none.

What data show
--------------
Events name no warehouse. They name who uploads (the actor) and who gives (the giver): a firm that stores
and sends for others uploads shipments of theirs. Storage in another province is not judged here: where
the registry has the warehouse it is lawful, and where it has not, the shipments are ``remote_dispatch``'s.

Definition
----------
Needs ``registry.enterprises`` (else shipments are skipped as ``no_registry``). Judged are events of role
``SHIP`` and ``PERSON_SALE`` whose actor and giver differ and are both registered (else ``unknown_party``).
The giver is a *principal* of the actor on that day unless both belong to one group (a head office that
uploads for its stores), or the giver has premises or a registered or entrusted warehouse in the city of
the actor (``dispatch_cities``): then the storage is on record. Actors of unknown region, platforms and
logistics firms (whose trade it is) are left out.

On a day with such events the principals of an actor are those of the last ``window_days`` days, that day
included. It *fires* when they are at least ``principals`` and more than when it fired last: on the first
event (time, event_key) of the actor's on that day. observed = principals, threshold = ``principals`` - 1.
Severity 0.3 + 0.02 for each above ``principals``, at most 0.5: a reason to look at its quality system.
No amount.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.detectors._rights import row_of
from trace_engine.detectors._standing import standing_rows, sum_by_day
from trace_engine.detectors.base import (
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
from trace_engine.events.batch import DAY
from trace_engine.events.kinds import Role
from trace_engine.registry.types import EnterpriseType

Int64 = npt.NDArray[np.int64]

RELATED = 16  # further events shown with a finding
_LEFT_OUT = [int(EnterpriseType.PLATFORM), int(EnterpriseType.LOGISTICS)]


class SharedWarehouseParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`SharedWarehouse`."""

    principals: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=1000,
            description="Enterprises whose goods one firm sends out",
            extra_json_schema={"unit": "enterprises", "zh": "由同一企业代为出库的委托方数量"},
        ),
    ] = 5
    window_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Within how many days",
            extra_json_schema={"unit": "days", "zh": "统计天数"},
        ),
    ] = 30


class SharedWarehouse(KeyedDetector[SharedWarehouseParameters]):
    """Principals by the firm that sends out their goods."""

    id: ClassVar[str] = "shared_warehouse"
    title_zh: ClassVar[str] = "未登记的多家委托储存"
    title_en: ClassVar[str] = "Unregistered storage for many"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.NETWORK
    key: ClassVar[str] = "enterprise that uploads"
    rows: ClassVar[tuple[str, ...]] = ("G12",)
    basis: ClassVar[str] = (
        "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：重点核查接受多家企业委托储存、跨省异地"
        "设库或者委托储存的药品批发企业"
    )
    unit: ClassVar[str] = "enterprises"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises.region", "actor_id beside from_id")
    false_positives: ClassVar[str] = (
        "Third-party warehouses that stand in the principals' registration, logistics firms and "
        "platforms (left out), head offices that upload for their stores (one group). Not kept "
        "out: a software house that uploads under its own number (register it as logistics or "
        "platform)."
    )
    false_positives_zh: ClassVar[str] = (
        "委托方已登记的第三方仓库、物流企业与平台（均不计）、为门店上传的总部（同一集团算一家）。未排除："
        "以自己编号代传数据的软件商，请在名录中登记为物流企业或平台。"
    )
    parameters: ClassVar[type[Parameters]] = SharedWarehouseParameters
    sentence_zh: ClassVar[str] = (
        "{subject}至{date}的{window_days}天内代{observed:.0f}家互无关联、未在其所在城市登记仓库的企业出库药品"
        "（最近为{principal_party}的{drug}，追溯码{code}），应核查委托储存是否办理及是否纳入质量体系。"
    )
    sentence_en: ClassVar[str] = (
        "In the {window_days} days to {date} {subject} sent out the goods of {observed:.0f} unrelated "
        "enterprises with no warehouse registered in its city (lastly {drug} of {principal_party}, "
        "code {code}): look at whether the storage was entrusted and how it is controlled."
    )

    def select(self, data: Slice, parameters: SharedWarehouseParameters) -> tuple[Rows, Verdict]:
        """Return who sent out whose goods, by day."""
        view, batch = data.registry, data.batch
        rows = data.rows_of(Role.SHIP, Role.PERSON_SALE)
        if not view.has("enterprises"):
            nothing = rows[:0]
            empty = standing_rows(data, nothing, subject=nothing.astype(np.int32), cause=0)
            return empty, Verdict(skipped={"no_registry": len(rows)} if len(rows) else {})
        rows = rows[batch.actor[rows] != batch.source[rows]]
        rows = rows[batch.source[rows] >= 0]
        actor, giver = batch.actor[rows], batch.source[rows]
        known = (row_of(data, actor) >= 0) & (row_of(data, giver) >= 0)
        unknown = len(rows) - int(np.count_nonzero(known))
        rows, actor, giver = rows[known], actor[known], giver[known]
        group = view.party_group
        strangers = (group[actor] < 0) | (group[actor] != group[giver])
        strangers &= ~np.isin(view.party_type[actor], _LEFT_OUT) & (view.party_region[actor] >= 0)
        at = np.flatnonzero(strangers)
        at = at[~_has_place_with(data, giver[at], actor[at])]
        found = standing_rows(data, rows[at], subject=actor[at], cause=0, other=giver[at])
        return found, Verdict(
            judged=len(rows), skipped={"unknown_party": unknown} if unknown else {}
        )

    def new_state(self) -> State:
        """Return empty state: by actor, the last day of each principal, and the highest number told."""
        return {"principals": {}, "told": {}}

    def advance(
        self, rows: Rows, state: State, parameters: SharedWarehouseParameters, last_day: int
    ) -> Hits | None:
        """Count the principals of each actor, day by day."""
        rows = sum_by_day(rows)
        by_day: dict[tuple[int, int], list[int]] = {}
        for row, (actor, time) in enumerate(
            zip(rows["subject_party"].tolist(), rows["time"].tolist(), strict=True)
        ):
            by_day.setdefault((time // DAY, actor), []).append(row)
        found: list[tuple[int, int, list[int]]] = []
        for (day, actor), mine in sorted(by_day.items()):
            last: dict[str, int] = state["principals"].setdefault(str(actor), {})
            last |= {str(int(rows["other_party"][row])): day for row in mine}
            for principal in [
                p for p, seen in last.items() if seen <= day - parameters.window_days
            ]:
                del last[principal]
            if len(last) < max(parameters.principals, state["told"].get(str(actor), 0) + 1):
                continue
            state["told"][str(actor)] = len(last)
            mine.sort(key=lambda row: (int(rows["time"][row]), int(rows["event_key"][row])))
            found.append((mine[0], len(last), mine[1 : RELATED + 1]))
        return _hits(rows, found, parameters) if found else None


def _has_place_with(
    data: Slice, giver: npt.NDArray[np.int32], actor: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Return which givers have a place on record in the city of the actor, shape ``(m,)``."""
    view = data.registry
    first, last = view.dispatch_offsets[giver], view.dispatch_offsets[giver + 1]
    city = view.regions.city[view.party_region[actor]]
    found = np.zeros(len(giver), np.bool_)
    for nth in range(int((last - first).max(initial=0))):
        at = np.flatnonzero(first + nth < last)
        found[at] |= view.dispatch_cities[first[at] + nth] == city[at]
    return found


def _hits(
    rows: Rows, found: list[tuple[int, int, list[int]]], parameters: SharedWarehouseParameters
) -> Hits:
    lead = np.array([row for row, _, _ in found], np.int64)
    principals = np.array([count for _, count, _ in found], np.float64)
    related = np.full((len(found), RELATED), -1, np.int64)
    for i, (_, _, others) in enumerate(found):
        related[i, : len(others)] = rows["seq"][others]
    above = principals - parameters.principals

    def column(name: str) -> Any:
        return rows[name][lead]

    return Hits(
        seq=column("seq"),
        time=column("time"),
        observed=principals,
        threshold=np.full(len(found), parameters.principals - 1.0),
        severity=np.minimum(0.3 + 0.02 * above, 0.5).astype(np.float32),
        subject=column("subject_party"),
        counterparty=np.full(len(found), -1, np.int32),
        amount=np.zeros(len(found), np.int64),
        group=np.ones(len(found), np.uint64),
        related=related,
        extra={
            "principal_party": column("other_party"),
            "window_days": np.full(len(found), parameters.window_days),
        },
    )

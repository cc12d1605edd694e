"""Acts of an enterprise against those of its peers: see ``record_tampering``."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.keys import extended
from trace_engine.detectors._scanning import (
    RELATED,
    LastDays,
    earliest,
    taken,
)
from trace_engine.detectors.base import (
    Parameters,
    Rows,
    State,
)
from trace_engine.registry.types import MEDICAL_TYPES, RETAIL_TYPES

Int64 = npt.NDArray[np.int64]


# Types that do the same trade: shops, and medical institutions.
_TRADES = {
    int(kind): tuple(sorted(int(k) for k in kinds))
    for kinds in (RETAIL_TYPES, MEDICAL_TYPES)
    for kind in kinds
}


BILL, RECORDED = 0, 1  # what makes acts one: the day and bill, or the day of recording


_DTYPES: dict[str, Any] = {
    "day": np.int32,
    "actor": np.int32,
    "type": np.int8,
    "seq": np.int64,
    "time": np.int64,
    "event_key": np.uint64,
    "sort": np.int8,
    "act": np.uint64,
}


class RecordTamperingParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of ``record_tampering``."""

    sigma: Annotated[
        float,
        msgspec.Meta(
            ge=0.0,
            le=100.0,
            description="Standard deviations above the mean of peers",
            extra_json_schema={"unit": "sigma", "zh": "高于同类均值的标准差倍数"},
        ),
    ] = 3.0
    days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=366,
            description="Days over which acts are counted",
            extra_json_schema={"unit": "days", "zh": "统计天数"},
        ),
    ] = 30
    chance: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=1.0,
            description="Highest probability that chance alone gives so many acts",
            extra_json_schema={"unit": "probability", "zh": "行为次数纯属偶然的最大概率"},
        ),
    ] = 1e-9
    minimum_acts: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=10_000,
            description="Fewer acts than this may be chance",
            extra_json_schema={"unit": "acts", "zh": "最少行为次数"},
        ),
    ] = 5
    minimum_events: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="A peer with fewer events says little",
            extra_json_schema={"unit": "events", "zh": "同类企业最少事件数"},
        ),
    ] = 30
    minimum_peers: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100_000,
            description="Fewest peers that make a yardstick",
            extra_json_schema={"unit": "enterprises", "zh": "最少同类企业数"},
        ),
    ] = 8
    backdate_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=366,
            description="An upload later than this is back-dated",
            extra_json_schema={"unit": "days", "zh": "晚于业务日期该天数上传视为倒填"},
        ),
    ] = 7
    correction_hours: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=8760,
            description="A void this soon after what it voids is a correction",
            extra_json_schema={"unit": "hours", "zh": "该小时数内冲红视为正常更正"},
        ),
    ] = 24


def counted_of(state: State) -> LastDays:
    """Return the events of each actor on the last days."""
    return LastDays(state, "counted", {"day": np.int32, "actor": np.int32, "events": np.int64})


def acted_of(state: State) -> LastDays:
    """Return the acts of the last days."""
    return LastDays(state, "acted", _DTYPES)


def fired_of(state: State) -> LastDays:
    """Return what fired on the last days."""
    return LastDays(state, "fired", {"day": np.int32, "actor": np.int32, "acts": np.int64})


def _acts_by_actor(acts: Rows) -> tuple[Int64, Int64]:
    """Return actors and how many acts each did."""
    if len(acts["day"]) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # Acts on one day and bill are one; so are all recorded on one day, whenever they happened.
    day = np.where(acts["sort"] == BILL, acts["day"], -1)
    order = np.lexsort((acts["act"], acts["sort"], day, acts["actor"]))
    new = np.ones(len(order), np.bool_)
    columns = (acts["actor"], day, acts["sort"], acts["act"])
    new[1:] = np.logical_or.reduce([c[order][1:] != c[order][:-1] for c in columns])
    return np.unique(acts["actor"][order][new].astype(np.int64), return_counts=True)


def judge_day(
    day: int, today: Rows, state: State, p: RecordTamperingParameters
) -> list[tuple[Any, ...]]:
    """Return what fires on a day, and take the day in: see ``record_tampering`` for the columns."""
    counted, acted, fired = counted_of(state), acted_of(state), fired_of(state)
    gone = counted.forget(day - p.days)
    np.subtract.at(state["events"], gone["actor"], gone["events"])
    acted.forget(day - p.days)
    fired.forget(day - p.days)
    size = int(today["actor"].max()) + 1
    state["events"] = extended(state["events"], size)
    state["types"] = extended(state["types"], size)
    state["types"][today["actor"]] = today["type"]

    is_act = today["sort"] >= 0
    events = taken(today, ~is_act)
    acts = taken(today, is_act)
    found: list[tuple[Any, ...]] = []
    if is_act.any():
        yardstick = Yardstick(state, acted.rows, p)
        acts["day"] = np.full(len(acts["seq"]), day)
        acted.add(acts)
        window = taken(acted.rows, acted.rows["day"] > day - p.days)
        leaving = counted.of_day(day - p.days)
        number = dict(zip(*(c.tolist() for c in _acts_by_actor(window)), strict=True))
        for actor in np.unique(acts["actor"]).tolist():
            k = number[actor]
            if k < p.minimum_acts or k < 2 * _highest(fired.rows, actor):
                continue
            n = int(
                state["events"][actor]
                - leaving["events"][leaving["actor"] == actor].sum()
                + events["events"][events["actor"] == actor].sum()
            )
            peers = yardstick.of(actor)
            if peers is None:
                continue
            mean, deviation, common, count = peers
            limit = mean + p.sigma * deviation
            if k / n <= limit or _chance_of(k, n * max(mean, common)) > p.chance:
                continue
            fired.add({"day": np.array([day]), "actor": np.array([actor]), "acts": np.array([k])})
            mine = earliest(acts, np.flatnonzero(acts["actor"] == actor))
            others = earliest(window, np.flatnonzero(window["actor"] == actor))[::-1]
            lead = int(acts["seq"][mine[0]])
            rest = window["seq"][others]
            rest = rest[rest != lead][:RELATED]
            found.append((lead, actor, k, k / n, limit, mean, count, rest))
    events["day"] = np.full(len(events["seq"]), day)
    counted.add(events)
    np.add.at(state["events"], events["actor"], events["events"])
    return found


def _highest(fired: Rows, actor: int) -> int:
    """Return the most acts with which an actor fired lately."""
    return int(fired["acts"][fired["actor"] == actor].max(initial=0))


def _chance_of(count: int, mean: float) -> float:
    """Return the probability that a Poisson variable reaches ``count``."""
    if count > mean + 1:
        # Term by term from ``count`` on: each is smaller than the one before.
        term = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
        total = 0.0
        while term > total * 1e-12:
            total += term
            count += 1
            term *= mean / count
        return total
    return 1.0


class Yardstick:
    """Rates of all actors on the closed days, to tell each what its peers do."""

    def __init__(self, state: State, acts: Rows, p: RecordTamperingParameters) -> None:
        self.events: Int64 = state["events"]
        self.types = state["types"]
        self.acts = np.zeros(len(self.events), np.int64)
        actors, count = _acts_by_actor(acts)
        self.acts[actors] = count
        self.counts = self.events >= p.minimum_events
        self.minimum_peers = p.minimum_peers
        self.by_types: dict[tuple[int, ...], tuple[Int64, npt.NDArray[np.float64]]] = {}

    def of(self, actor: int) -> tuple[float, float, float, int] | None:
        """Return mean and deviation of the peers' rates, their common rate, and their number."""
        kind = int(self.types[actor])
        for types in ((kind,), _TRADES.get(kind, ())):
            alike, rates = self._alike(types)
            others = alike != actor
            # Sorted: sums of fractions depend on their order, and actors are numbered on arrival.
            peers, rates = alike[others], np.sort(rates[others])
            if len(peers) >= self.minimum_peers:
                chance = max(int(self.acts[peers].sum()), 1) / int(self.events[peers].sum())
                return float(rates.mean()), float(rates.std()), chance, len(peers)
        return None

    def _alike(self, types: tuple[int, ...]) -> tuple[Int64, npt.NDArray[np.float64]]:
        """Return the enterprises of some types that scanned enough, and their rates."""
        if types not in self.by_types:
            rows = np.flatnonzero(self.counts & np.isin(self.types, types))
            self.by_types[types] = rows, self.acts[rows] / self.events[rows]
        return self.by_types[types]

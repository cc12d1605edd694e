"""Sales that lack what their source otherwise states: the rule behind two detectors.

Definition
----------
Each day's purchases (see ``_retail``) of one *channel* of a seller are counted: all, and those of
which no row states the thing asked for (*bare*). The channel is the platform the sale names; an
online sale that names a shop alone, and a sale over the counter, are channels of the seller's own.
The *source* of a channel is the platform, over all its sellers; else the channel itself. (Movements of
other rules have channels of their own: a party and a kind of movement.)

On a day on which a channel has bare purchases, let ``n`` and ``m`` be its purchases and its bare ones
of the last ``window_days`` days, that day included, and ``N`` and ``M`` those of its source in the
``reference_days`` days before them. The source *states* the thing if N >= ``min_sales`` and
M <= (1 - ``min_share``) × N. *Fires* if it does and the chance of at least m bare ones among n, if
each is bare with probability p = (M + 1) / (N + 2), is below ``max_chance``.

So a feed that never carries the thing accuses nobody, nor do the gaps that every feed has.

One hit for each bare purchase of the day: its row with the smallest (time, event_key). observed = m,
threshold = n × p. Related: the bare purchases of the channel on those days before in the window on
which its source stated the thing (at most 16, latest first). Hits of one day, seller, drug, batch
number and channel are one finding.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.keys import KeySpace, extended, pair_all
from trace_engine.detectors._quota import days_of
from trace_engine.detectors._retail import Int64, binomial_tail, purchase_of, related_to
from trace_engine.detectors.base import (
    Hits,
    KeyedDetector,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import DAY, ONLINE

SLOTS = 64  # days remembered of each channel and source: both spans together stay below


class StatementParameters(Parameters, frozen=True, kw_only=True):
    """Thresholds of :class:`MissingStatement`."""

    window_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=14,
            description="Days of a seller's sales judged together",
            extra_json_schema={"unit": "days", "zh": "合并判断的销售天数"},
        ),
    ] = 7
    reference_days: Annotated[
        int,
        msgspec.Meta(
            ge=7,
            le=45,
            description="Days before them that show what the source usually states",
            extra_json_schema={"unit": "days", "zh": "判断来源平时是否填报的参照天数"},
        ),
    ] = 30
    min_sales: Annotated[
        int,
        msgspec.Meta(
            ge=5,
            le=1_000_000,
            description="Fewest purchases in the reference",
            extra_json_schema={"unit": "purchases", "zh": "参照期最少销售单数"},
        ),
    ] = 20
    min_share: Annotated[
        float,
        msgspec.Meta(
            ge=0.5,
            le=1.0,
            description="Share of the reference that states it, for the source to count as stating",
            extra_json_schema={"unit": "share", "zh": "参照期填报比例下限"},
        ),
    ] = 0.9
    max_chance: Annotated[
        float,
        msgspec.Meta(
            gt=0.0,
            le=0.05,
            description="Highest chance of so many gaps, were they like those of the reference",
            extra_json_schema={"unit": "probability", "zh": "缺失纯属偶然的概率上限"},
        ),
    ] = 0.00001


class Gap(NamedTuple):
    """A bare purchase that fires."""

    row: int  # of the day's rows
    seq: int
    bare: int  # of the channel, in the window
    expected: float
    branch: int
    by_platform: bool
    related: list[int]  # log numbers


@kernel
def _gather(
    of_row: npt.NDArray[np.int32],
    time: npt.NDArray[np.int64],
    event_key: npt.NDArray[np.uint64],
    stated: npt.NDArray[np.bool_],
    lead: npt.NDArray[np.int64],
    bare: npt.NDArray[np.bool_],
) -> None:
    """Write the first row of each purchase by (time, event_key), and whether none states the thing.

    ``lead`` begins with -1, ``bare`` with True.
    """
    for i in range(len(of_row)):
        k = of_row[i]
        b = lead[k]
        if b < 0 or time[i] < time[b] or (time[i] == time[b] and event_key[i] < event_key[b]):
            lead[k] = i
        if stated[i]:
            bare[k] = False


def gap_state() -> State:
    """Return empty state: counts by channel or source and day, and recent bare purchases."""
    state: State = {
        "clock": -1,
        "counts": np.zeros((0, SLOTS, 2), np.int32),  # all, bare
        "bare_time": np.empty(0, np.int64),
        "bare_channel": np.empty(0, np.int64),
        "bare_order": np.empty(0, np.uint64),
        "bare_seq": np.empty(0, np.int64),
    }
    KeySpace(state, "channel")
    return state


def gaps_of_day(state: State, day: int, today: Rows, p: StatementParameters) -> list[Gap]:
    """Count the purchases of a day and return those that fire.

    Columns of ``today``: ``seq``, ``time``, ``event_key``; ``source``, ``branch`` (small, not
    negative) and ``platform`` (-1 none) make the channel; ``purchase`` and ``stated``.
    """
    _turn_to(state, day)
    space = KeySpace(state, "channel")
    platform = today["platform"]
    by_platform = platform >= 0
    branch = today["branch"].astype(np.uint64) + np.uint64(1)
    channel = space.ids(pair_all(platform, today["source"]), branch).astype(np.int64)
    source = channel.copy()
    whole = pair_all(platform[by_platform], np.full(int(by_platform.sum()), -1))
    source[by_platform] = space.ids(whole, np.zeros(len(whole), np.uint64))
    purchases = KeySpace({}, "purchase")
    of_row = purchases.ids(today["purchase"], channel.astype(np.uint64))
    lead = np.full(len(purchases), -1, np.int64)  # the first row of each purchase
    bare = np.ones(len(purchases), np.bool_)
    _gather(of_row, today["time"], today["event_key"], today["stated"], lead, bare)
    counts = state["counts"] = extended(state["counts"], len(space))
    also = by_platform[lead]  # else the channel is its own source
    for keys, gaps in ((channel[lead], bare), (source[lead][also], bare[also])):
        place = 2 * (keys * SLOTS + day % SLOTS)
        np.add.at(counts.reshape(-1), place, 1)
        np.add.at(counts.reshape(-1), place[gaps] + 1, 1)
    rows = lead[bare]
    if len(rows) == 0:
        return []
    window = np.arange(day - p.window_days + 1, day + 1) % SLOTS
    first = day - p.window_days - p.reference_days + 1
    reference = np.arange(first, first + p.reference_days) % SLOTS
    sources, number = np.unique(source[rows], return_inverse=True)
    usual = counts[sources][:, reference].sum(axis=1)  # all, bare
    states = (usual[:, 0] >= p.min_sales) & (usual[:, 1] <= (1 - p.min_share) * usual[:, 0])
    rows, number = rows[states[number]], number[states[number]]
    keys = channel[rows]
    _remember(state, today, rows, keys, (day - p.window_days) * DAY)
    found: list[Gap] = []
    for key in np.unique(keys).tolist():
        mine = np.flatnonzero(keys == key)
        mine = mine[np.lexsort((today["event_key"][rows[mine]], today["time"][rows[mine]]))]
        total, missing = usual[number[mine[0]]].tolist()
        n, m = counts[key][window].sum(axis=0).tolist()
        chance = (missing + 1) / (total + 2)
        if binomial_tail(n, m, chance) >= p.max_chance:
            continue
        rest = _earlier(state, key, (day - p.window_days + 1) * DAY, day * DAY)
        for i, row in enumerate(rows[mine].tolist()):
            found.append(
                Gap(
                    row,
                    int(today["seq"][row]),
                    m,
                    n * chance,
                    int(today["branch"][row]),
                    bool(by_platform[row]),
                    rest if i == 0 else [],
                )
            )
    return found


def _turn_to(state: State, day: int) -> None:
    """Clear the days between the last one counted and ``day``."""
    clock = state["clock"]
    if day > clock:
        passed = np.arange(max(clock + 1, day - SLOTS + 1), day + 1) % SLOTS
        state["counts"][:, passed] = 0
        state["clock"] = day


def _remember(state: State, today: Rows, rows: Int64, keys: Int64, before: int) -> None:
    """Keep the bare purchases of a day, and drop those older than ``before`` (µs)."""
    kept = state["bare_time"] >= before
    new = {
        "bare_time": today["time"][rows],
        "bare_channel": keys,
        "bare_order": today["event_key"][rows],
        "bare_seq": today["seq"][rows],
    }
    for name, values in new.items():
        state[name] = np.concatenate([state[name][kept], values])


def _earlier(state: State, key: int, since: int, until: int) -> list[int]:
    """Return the log numbers of a channel's bare purchases in [since, until), latest first."""
    time = state["bare_time"]
    rows = np.flatnonzero((state["bare_channel"] == key) & (time >= since) & (time < until))
    latest = rows[np.lexsort((state["bare_order"][rows], -time[rows]))]
    numbers: list[int] = state["bare_seq"][latest].tolist()
    return numbers


class MissingStatement(KeyedDetector[StatementParameters]):
    """Purchases by channel and day, and those that are bare."""

    parameters: ClassVar[type[Parameters]] = StatementParameters
    severity: ClassVar[tuple[float, float]]  # over the counter, online

    @abstractmethod
    def _sales(self, data: Slice) -> tuple[Int64, npt.NDArray[np.bool_], dict[str, int]]:
        """Return the rows judged, which of them state the thing, and what was skipped."""

    def select(self, data: Slice, parameters: StatementParameters) -> tuple[Rows, Verdict]:
        """Return every sale judged, with its purchase and whether it states the thing."""
        batch = data.batch
        rows, stated, skipped = self._sales(data)
        online = (batch.flags[rows] & ONLINE) != 0
        columns: Rows = {
            "seq": data.seq_base + rows,
            "time": batch.time[rows],
            "event_key": batch.event_key[rows],
            "source": batch.source[rows],
            "platform": np.where(online, batch.platform[rows], np.int32(-1)).astype(np.int32),
            "branch": online.astype(np.int8),
            "purchase": purchase_of(batch, rows),
            "stated": stated,
        }
        return columns, Verdict(judged=len(rows), skipped=skipped)

    def new_state(self) -> State:
        """Return empty state."""
        return gap_state()

    def advance(
        self, rows: Rows, state: State, parameters: StatementParameters, last_day: int
    ) -> Hits | None:
        """Count and judge day by day."""
        found: list[Gap] = []
        for day, today in days_of(rows):
            found += gaps_of_day(state, day, today, parameters)
        if not found:
            return None
        branch = np.array([gap.branch for gap in found])
        return Hits(
            seq=np.array([gap.seq for gap in found], np.int64),
            observed=np.array([gap.bare for gap in found], np.float64),
            threshold=np.array([gap.expected for gap in found], np.float64),
            severity=np.array(self.severity, np.float32)[branch],
            group=np.array([1 + gap.branch + 2 * gap.by_platform for gap in found], np.uint64),
            related=related_to([gap.related for gap in found]),
            extra={
                "channel_zh": np.array(["线下", "网上"])[branch],
                "channel_en": np.array(["over the counter", "online"])[branch],
                "window_days": np.full(len(found), parameters.window_days),
            },
        )

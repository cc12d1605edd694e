"""Clue concentration 触发线索集中 (C16): far more clues than its trade explains.

A calendar month is judged once it has been over for three days. For each enterprise it counts

* ``y``: clues of the month, a clue being one detector of suspected violations that fired on scans
  of one day (a bill of 10 000 packs is one clue, and so is a day of such bills);
* ``e``: events in which it was the giver. At the rate of the other enterprises of its type
  ``E = e · Σy / Σe`` clues would be expected (sums over the others, so that nobody hides behind the
  clues it gave rise to itself).

Small enterprises scatter widely, so the ratio is shrunk (empirical Bayes, gamma-Poisson): with a
prior Gamma(α, α) on the ratio, whose α is estimated from the peers by moments,
``1/α = Σ((y − E)² − E) / ΣE²`` (within [1/100, 10]), the ratio's posterior is Gamma(α + y, α + E).
It fires where the lower 5 % point of the posterior (Wilson and Hilferty's approximation) is at
least ``ratio``, with at least ``clues`` clues and ``peers`` enterprises of the type.
observed = clues, threshold = clues expected; no amount. Severity 0.5 to 0.9 with the shrunk ratio.

Clues that are themselves statistics of a period (their time is not that of a scan) do not count:
they would count the same scans twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.detectors.base import (
    ClueDetector,
    Detector,
    Evidence,
    Family,
    Hits,
    LookUp,
    Parameters,
    Rows,
    Slice,
    State,
    Verdict,
)
from trace_engine.events.batch import DAY
from trace_engine.events.hashing import hash64
from trace_engine.registry import RegistryView

Int64 = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_DAYS_AFTER = 3  # the month is judged when it has been over so long: clues of its last day are in
_NAMED = 8  # clues named as evidence: the latest
_LOWER_FIVE_PERCENT = -1.6448536269514722  # quantile of the standard normal distribution
_SMALLEST_ALPHA, _LARGEST_ALPHA = 0.1, 100.0

_COLUMNS: dict[str, Any] = {
    "seq": np.int64,
    "time": np.int64,
    "event_key": np.uint64,
    "source": np.int32,
    "type": np.int8,
    "detector_key": np.uint64,  # hash of the detector's id; 0: exposure
    "events": np.int64,  # of an exposure: how many events
}


@kernel
def add_givers(
    source: npt.NDArray[np.int32], counts: Int64, first: npt.NDArray[np.int32], start: int
) -> None:
    """Count events by giver, and note the row of the first (``first`` is left where none was)."""
    for i in range(source.shape[0]):
        giver = source[i]
        if giver >= 0:
            if counts[giver] == 0:
                first[giver] = start + i
            counts[giver] += 1


class ClueConcentrationParameters(Parameters, frozen=True, kw_only=True):
    """How much more than expected is too much."""

    ratio: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=100,
            description="Lower bound of clues over clues expected from which it fires",
            extra_json_schema={"unit": "times", "zh": "线索数与预期之比的下限达到此值即触发"},
        ),
    ] = 3.0
    clues: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=1000,
            description="Fewest clues in the month",
            extra_json_schema={"unit": "clues", "zh": "当月线索数下限"},
        ),
    ] = 5
    peers: Annotated[
        int,
        msgspec.Meta(
            ge=2,
            le=100000,
            description="Fewest active enterprises of the type to compare with",
            extra_json_schema={"unit": "enterprises", "zh": "同类型活跃企业数下限"},
        ),
    ] = 5


class ClueConcentration(ClueDetector[ClueConcentrationParameters]):
    """See the module."""

    id = "clue_concentration"
    title_zh = "触发线索集中"
    title_en = "Clues concentrate on one enterprise"
    family = Family.SUSPECTED_VIOLATION
    evidence = Evidence.QUANTITY
    key = "enterprise and month"
    rows = ("C16",)
    basis = "药品经营环节“清源”巩固提升行动：追溯信息触发线索集中的企业"
    unit = "clues"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises.type",)
    false_positives: ClassVar[str] = (
        "Large enterprises: clues are set against their own number of events. Small ones that "
        "meet one or two by chance: the ratio is shrunk towards that of their type, and its "
        "lower bound counts. Bulk bills: a detector counts once a day. Data-quality findings do "
        "not count."
    )
    false_positives_zh: ClassVar[str] = (
        "大型企业：线索数与其自身业务量相比。小型企业偶然触发一两条：比值向同类企业水平收缩，"
        "并以置信下限判定。大宗单据：同一规则每天只计一次。数据质量类线索不计。"
    )
    parameters = ClueConcentrationParameters
    sentence_zh: ClassVar[str] = (
        "{subject}在{month}触发疑似违规线索{observed:.0f}条，而按其业务量和同类企业水平预期仅"
        "{expected}条；考虑偶然因素后仍约为预期的{ratio:.1f}倍，线索明显集中。主要为：{kinds_zh}。"
    )
    sentence_en: ClassVar[str] = (
        "{subject} gave rise to {observed:.0f} clues of suspected violations in {month}, where "
        "its trade and the level of its type would explain {expected}: allowing for chance, "
        "still about {ratio:.1f} times as many. Mostly: {kinds_en}."
    )

    def __init__(self) -> None:
        self._catalogue: dict[int, Detector[Any]] = {}  # by hash of the id

    def select(self, data: Slice, parameters: ClueConcentrationParameters) -> tuple[Rows, Verdict]:
        """Return one row a giver and month of the slice: how many events it gave."""
        batch = data.batch
        parties = len(data.registry.party_type)
        months = np.arange(_month_of(data.first_day) + 1, _month_of(data.last_day) + 1)
        starts = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        cuts = np.searchsorted(batch.time, starts * DAY).tolist()
        rows, events = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start, stop in pairwise([0, *cuts, len(batch)]):
            counts, first = np.zeros(parties, np.int64), np.empty(parties, np.int32)
            add_givers(batch.source[start:stop], counts, first, start)
            givers = np.flatnonzero(counts)
            rows.append(first[givers].astype(np.int64))
            events.append(counts[givers])
        row = np.concatenate(rows)
        source = batch.source[row]
        packed = _rows(
            seq=data.seq_base + row,
            time=batch.time[row] // DAY * DAY,
            event_key=batch.event_key[row],
            source=source,
            type=data.registry.party_type[source],
            events=np.concatenate(events),
        )
        judged = int(packed["events"].sum())
        missing = len(data) - judged
        return packed, Verdict(judged=judged, skipped={"no_giver": missing} if missing else {})

    def select_clues(
        self,
        hits: Iterable[tuple[str, Hits]],
        catalogue: Mapping[str, Detector[Any]],
        look_up: LookUp,
        registry: RegistryView,
    ) -> Rows:
        """Return one row a hit that was judged on a scan itself."""
        parts = []
        if len(self._catalogue) != len(catalogue):
            self._catalogue = {hash64(name): detector for name, detector in catalogue.items()}
        for name, some in hits:
            seq = np.asarray(some.seq, np.int64)
            at = look_up(("time", "event_key", "source", "target"), seq)
            giver, receiver = at["source"], at["target"]
            if catalogue[name].answerable == "receiver":
                giver = receiver
            subject = giver if some.subject is None else np.asarray(some.subject, np.int32)
            counts = subject >= 0
            if some.time is not None:
                counts &= np.asarray(some.time, np.int64) == at["time"]
            parts.append(
                _rows(
                    seq=seq[counts],
                    time=at["time"][counts],
                    event_key=at["event_key"][counts],
                    source=subject[counts],
                    type=registry.party_type[subject[counts]],
                    detector_key=np.full(int(counts.sum()), hash64(name), np.uint64),
                )
            )
        empty = _rows(seq=np.empty(0, np.int64))
        return {name: np.concatenate([p[name] for p in (empty, *parts)]) for name in _COLUMNS}

    def new_state(self) -> State:
        """Return the sums of no month."""
        state: State = {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()}
        state["types"] = np.empty(0, np.int8)  # by giver
        return state

    def advance(
        self, rows: Rows, state: State, parameters: ClueConcentrationParameters, last_day: int
    ) -> Hits | None:
        """Add rows to their months and judge the months that have been over long enough.

        State: clues of open months as columns, and for each month ``events<month>``, by giver.
        """
        exposure = rows["detector_key"] == 0
        _add_exposure(_part(rows, exposure), state)
        clues = _part(rows, ~exposure)
        if len(clues["seq"]):
            joined = {
                n: np.concatenate([state[n], np.asarray(clues[n], t)]) for n, t in _COLUMNS.items()
            }
            state.update(_once_a_day(joined))
        closed = int(_month(np.array([(last_day - _DAYS_AFTER + 1) * DAY]))[0])
        over = sorted(
            int(n[6:])
            for n in state
            if n.startswith("events") and n != "events" and int(n[6:]) < closed
        )
        found = []
        for month in over:
            events = state.pop(f"events{month}")
            mine = _month(state["time"]) == month
            hits = self._judge(_part(state, mine), events, state["types"], month, parameters)
            if hits is not None:
                found.append(hits)
        if over:
            state.update(_part(state, _month(state["time"]) >= closed))
        return _joined(found)

    def _judge(
        self,
        rows: Rows,
        given: Int64,
        types: npt.NDArray[np.int8],
        month: int,
        parameters: ClueConcentrationParameters,
    ) -> Hits | None:
        """Judge one month: ``rows`` are its clues, ``given`` events by giver."""
        size = max(len(given), int(rows["source"].max()) + 1 if len(rows["seq"]) else 0)
        events = _grown(given, size)
        kind = _grown(types, size)[:size]
        clues = np.bincount(rows["source"], minlength=size)
        expected, ratio, lower = np.zeros((3, size))
        fires = np.zeros(size, np.bool_)
        for one in np.unique(kind[clues > 0]).tolist():
            peers = np.flatnonzero((kind == one) & (events > 0))
            if len(peers) < parameters.peers or clues[peers].sum() == 0:
                continue
            found = shrink(clues[peers], events[peers])
            expected[peers], ratio[peers], lower[peers] = found
            fires[peers] = (lower[peers] >= parameters.ratio) & (clues[peers] >= parameters.clues)
        chosen = np.flatnonzero(fires)
        if len(chosen) == 0:
            return None
        related = np.full((len(chosen), _NAMED), -1, np.int64)
        kinds = []
        for i, party in enumerate(chosen.tolist()):
            mine = np.flatnonzero(rows["source"] == party)
            order = (rows["detector_key"][mine], rows["event_key"][mine], rows["time"][mine])
            mine = mine[np.lexsort(order)]
            latest = rows["seq"][mine][::-1][:_NAMED]
            related[i, : len(latest)] = latest
            kinds.append(self._kinds(rows["detector_key"][mine]))
        first = np.datetime64(month, "M")
        end = int((first + 1).astype("datetime64[D]").astype(np.int64)) - 1
        return Hits(
            seq=related[:, 0],
            observed=clues[chosen].astype(np.float64),
            threshold=expected[chosen],
            severity=np.clip(0.4 + 0.1 * np.log2(ratio[chosen]), 0.5, 0.9).astype(np.float32),
            subject=chosen.astype(np.int32),
            counterparty=np.full(len(chosen), -1, np.int32),
            time=np.full(len(chosen), end * DAY, np.int64),
            amount=np.zeros(len(chosen), np.int64),
            group=np.full(len(chosen), month + 1, np.uint64),
            related=related,
            extra={
                "month": np.full(len(chosen), str(first)),
                "ratio": ratio[chosen],
                "expected": np.array([_in_words(one) for one in expected[chosen].tolist()]),
                "kinds_zh": np.array([zh for zh, _ in kinds]),
                "kinds_en": np.array([en for _, en in kinds]),
            },
        )

    def _kinds(self, keys: npt.NDArray[np.uint64]) -> tuple[str, str]:
        """Return the detectors behind clues in words, the commonest first, in both languages."""
        names = self._catalogue
        found, counts = np.unique(keys, return_counts=True)
        ordered = sorted(
            (
                (-int(n), names[int(k)].id, names[int(k)])
                for k, n in zip(found, counts, strict=True)
            ),
            key=lambda item: item[:2],
        )[:4]
        zh = "、".join(f"{cls.title_zh}{-n}条" for n, _, cls in ordered)
        en = ", ".join(f"{cls.title_en} ({-n})" for n, _, cls in ordered)
        return zh, en


def _in_words(expected: float) -> str:
    """Return a number of clues expected as a sentence says it: two digits that are not 0."""
    if expected >= 10 or expected == 0:
        return f"{expected:.0f}"
    return f"{expected:.2g}" if expected >= 0.001 else "<0.001"


def _rows(seq: Int64, **columns: npt.NDArray[Any]) -> Rows:
    """Return rows with every column; those not given are 0."""
    out: Rows = {"seq": seq}
    for name, dtype in _COLUMNS.items():
        if name != "seq":
            out[name] = np.asarray(columns.get(name, np.zeros(len(seq))), dtype)
    return out


def _part(rows: Mapping[str, Any], which: npt.NDArray[Any]) -> Rows:
    """Return the columns of rows at ``which``."""
    return {name: rows[name][which] for name in _COLUMNS}


def _month_of(day: int) -> int:
    """Return months since 1970-01 of a day."""
    return int(np.datetime64(day, "D").astype("datetime64[M]").astype(np.int64))


def _month(time: Int64) -> Int64:
    """Return months since 1970-01 of times."""
    return (time // DAY).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _add_exposure(rows: Rows, state: State) -> None:
    """Add events to the sums of their months, by giver."""
    if len(rows["seq"]) == 0:
        return
    size = int(rows["source"].max()) + 1
    if size > len(state["types"]):
        state["types"] = _grown(state["types"], 2 * size)
    state["types"][rows["source"]] = rows["type"]
    first, last = (
        _month_of(int(day)) for day in (rows["time"].min() // DAY, rows["time"].max() // DAY)
    )
    month = _month(rows["time"]) if first != last else None
    for one in range(first, last + 1):
        mine = slice(None) if month is None else month == one
        name = f"events{one}"
        state[name] = _grown(state.get(name, np.empty(0, np.int64)), len(state["types"]))
        np.add.at(state[name], rows["source"][mine], rows["events"][mine])


def _grown(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    if len(array) >= size:
        return array
    return np.concatenate([array, np.zeros(size - len(array), array.dtype)])


def _once_a_day(clues: Rows) -> Rows:
    """Keep one row (the latest) of each detector, enterprise and day."""
    day = clues["time"] // DAY
    order = np.lexsort(
        (clues["event_key"], clues["time"], day, clues["detector_key"], clues["source"])
    )
    clues, day = _part(clues, order), day[order]
    last = (
        (np.diff(clues["source"]) != 0)
        | (np.diff(clues["detector_key"]) != 0)
        | (np.diff(day) != 0)
    )
    return _part(clues, np.append(np.flatnonzero(last), len(order) - 1))


def shrink(clues: npt.NDArray[Any], events: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return (expected clues, shrunk ratio, its lower 5 % point) of peers, each ``(n,)``.

    See the module for the formula. ``events`` are positive, of two peers or more; some clue is there.
    """
    y, e = clues.astype(np.float64), events.astype(np.float64)
    expected = e * (y.sum() - y) / (e.sum() - e)
    # Exact sums: enterprises stand in the order of their numbers, which differs between engines.
    above = math.fsum(((y - expected) ** 2 - expected).tolist())
    spread = above / math.fsum((expected**2).tolist())
    alpha = min(max(1 / spread, _SMALLEST_ALPHA), _LARGEST_ALPHA) if spread > 0 else _LARGEST_ALPHA
    shape, rate = alpha + y, alpha + expected
    ninth = 1 / (9 * shape)
    cube = np.maximum(1 - ninth + _LOWER_FIVE_PERCENT * np.sqrt(ninth), 0)
    return expected, shape / rate, shape / rate * cube**3


def _joined(parts: list[Hits]) -> Hits | None:
    if not parts:
        return None
    names = ("seq", "observed", "threshold", "severity", "subject", "counterparty", "time", "amount",
             "group", "related")  # fmt: skip
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    extra = {n: np.concatenate([p.extra[n] for p in parts]) for n in parts[0].extra}
    return Hits(**columns, extra=extra)

"""Record tampering 篡改购销数据 (C15): takes back and back-dates far more than its peers.

Definition
----------
Needs ``registry.enterprises`` (else all are skipped as ``no_registry``): the peers of an enterprise are
told by its registered type. Everything hangs on the actor, who uploads. Actors not in the registry
are skipped as ``unregistered``; all other events are judged.

*Acts* of X:

* a *late void*: a void that names a known event of its code, unless that event is at most
  ``correction_hours`` older than the void (from the end of its day, if it is date-only): tills correct
  their mistakes at once, and may;
* a *replaced code*: kind ``code_replacement``. Acts of these two kinds on one day and bill are one act
  (without a bill, each is one);
* a *back-dated upload*: recorded more than ``backdate_days`` after the event (after its day, if it is
  date-only). All that were recorded on one day are one act: a system that was down and catches up
  tampers with nothing.

On a day D on which X acts: k = acts of X on the days D - days + 1 to D, n = its events on them, rate =
k / n. Peers: those of the same type other than X with at least ``minimum_events`` events on the closed
days D - days to D - 1, each with the rate of its acts and events on them; where they are fewer than
``minimum_peers``, those of the same trade: all shops (pharmacies and chain stores), or all medical
institutions. With at least ``minimum_peers`` of them, mu and s are mean and standard deviation (of the
population) of their rates, and p is max(their acts, 1) / their events, all together.

*Fires* when k >= ``minimum_acts``, k is at least twice as high as at any firing of X on the ``days``
days before, rate > mu + ``sigma`` × s, and chance does not explain it: a Poisson variable of mean
n × max(mu, p) reaches k with a probability of at most ``chance``. observed = rate, threshold = mu +
``sigma`` × s, both in acts per 1000 events. The act of D with the smallest (time, event key) leads; the
latest others of the window are related (at most 16). Subject X; no counterparty. Severity 0.4 + 0.05 ×
(k - ``minimum_acts``), at most 0.9.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.core.signals import VOID_UNMATCHED
from trace_engine.detectors._scanning import (
    days_in,
    related_of,
    taken,
)
from trace_engine.detectors._tampering_peers import (
    BILL,
    RECORDED,
    RecordTamperingParameters,
    acted_of,
    counted_of,
    fired_of,
    judge_day,
)
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
from trace_engine.events.batch import DAY, HOUR, MISSING_TIME
from trace_engine.events.kinds import EventKind, Role

Int64 = npt.NDArray[np.int64]

_DAY, _MISSING_TIME = np.int64(DAY), np.int64(MISSING_TIME)


class RecordTampering(KeyedDetector[RecordTamperingParameters]):
    """Voids, replaced codes and back-dated uploads against the registered peers."""

    id: ClassVar[str] = "record_tampering"
    title_zh: ClassVar[str] = "篡改购销数据"
    title_en: ClassVar[str] = "Tampering with records"
    family: ClassVar[Family] = Family.SUSPECTED_VIOLATION
    evidence: ClassVar[Evidence] = Evidence.SCANNING
    key: ClassVar[str] = "enterprise"
    rows: ClassVar[tuple[str, ...]] = ("C15",)
    basis: ClassVar[str] = "药品经营环节“清源”巩固提升行动（药监综药管〔2026〕22号）：篡改购销数据"
    unit: ClassVar[str] = "acts per 1000 events"
    needs: ClassVar[tuple[str, ...]] = ("registry.enterprises", "record_time or voids_event_id")
    false_positives: ClassVar[str] = (
        "Mistakes put right at once (hours for corrections), a system that was down and catches "
        "up (what is recorded on one day is one act), one big bill taken back (one act), small "
        "samples (a least number of acts, and chance is ruled out), types of enterprises that "
        "void more than others (peers are of one type). Edits that keep their event id never "
        "reach this rule: they are rejected as conflicts and counted there."
    )
    false_positives_zh: ClassVar[str] = (
        "及时改正的差错（有更正时限）、系统中断后的补传（同一天补录算一次）、整张大单冲回（算一次）、"
        "样本小（须达最低次数，并排除偶然）、冲红本来就多的企业类型（只与同类比较）。"
        "沿用原事件标识的改动不会到达本规则：按冲突拒收并另行计数。"
    )
    parameters: ClassVar[type[Parameters]] = RecordTamperingParameters
    sentence_zh: ClassVar[str] = (
        "{subject}截至{date}的{window_days}天内有{act_count}次迟延冲红、换码或倒填日期上传，每千条事件"
        "{observed:.1f}次，明显高于{peer_count}家同类企业（均值{peer_mean:.1f}次，判定线{threshold:.1f}次）。"
    )
    sentence_en: ClassVar[str] = (
        "In the {window_days} days to {date} {subject} voided late, replaced codes or back-dated "
        "uploads {act_count} times, {observed:.1f} per 1000 events; {peer_count} peers do so "
        "{peer_mean:.1f} times on average (limit {threshold:.1f})."
    )

    def select(self, data: Slice, parameters: RecordTamperingParameters) -> tuple[Rows, Verdict]:
        """Return how many events each registered actor uploaded each day, and its acts."""
        batch, view = data.batch, data.registry
        n = len(data)
        if not view.has("enterprises"):
            return _rows(data, []), Verdict(skipped={"no_registry": n} if n else {})
        # Days of the slice; what came late is taken into its first day, as the engine does.
        last = max(data.last_day, data.first_day)
        begins = np.searchsorted(
            batch.time, np.arange(data.first_day + 1, last + 1, dtype=np.int64) * DAY
        )
        bounds = [0, *begins.tolist(), n]
        registered = np.append(view.party_known, False)
        pieces: list[tuple[Any, ...]] = []
        judged = 0
        for offset, (begin, end) in enumerate(pairwise(bounds)):
            if begin == end:
                continue
            count = np.zeros(len(registered) - 1, np.int64)
            _count_actors(batch.actor[begin:end], count)
            actors = np.flatnonzero(count)
            actors = actors[registered[actors]]
            judged += int(count[actors].sum())
            row = np.full(len(actors), begin, np.int64)
            time = np.full(len(actors), (data.first_day + offset) * DAY)
            pieces.append((time, row, actors, count[actors], 0, np.uint64(0)))
        acts, sort, key = _acts(data, parameters)
        known = registered[batch.actor[acts]]
        acts, sort, key = acts[known], sort[known], key[known]
        time = np.maximum(batch.time[acts], data.first_day * DAY)
        pieces.append((time, acts, batch.actor[acts], np.zeros(len(acts), np.int64), sort + 1, key))
        skipped = {"unregistered": n - judged} if n > judged else {}
        return _rows(data, pieces), Verdict(judged=judged, skipped=skipped)

    def new_state(self) -> State:
        """Return empty state: events by actor on the closed days, the acts and what fired."""
        state: State = {"events": np.zeros(0, np.int64), "types": np.zeros(0, np.int8)}
        for memory in (counted_of, acted_of, fired_of):
            memory(state)
        return state

    def advance(
        self, rows: Rows, state: State, parameters: RecordTamperingParameters, last_day: int
    ) -> Hits | None:
        """Judge each day on which somebody acted against the closed days before it."""
        found: list[tuple[Any, ...]] = []
        for day, today in days_in(rows):
            found += judge_day(day, today, state, parameters)
        if not found:
            return None
        seq, actor, acts, rate, limit, mean, peers, related = zip(*found, strict=True)
        m, k = len(found), np.array(acts, np.int64)
        return Hits(
            seq=np.array(seq, np.int64),
            observed=np.array(rate) * 1000,
            threshold=np.array(limit) * 1000,
            severity=np.clip(0.4 + 0.05 * (k - parameters.minimum_acts), 0, 0.9).astype(np.float32),
            subject=np.array(actor, np.int32),
            counterparty=np.full(m, -1, np.int32),
            group=np.ones(m, np.uint64),
            related=related_of(related),
            extra={
                "act_count": k,
                "peer_mean": np.array(mean) * 1000,
                "peer_count": np.array(peers, np.int64),
                "window_days": np.full(m, parameters.days, np.int64),
            },
        )


def _rows(data: Slice, pieces: list[tuple[Any, ...]]) -> Rows:
    """Return rows by time: (time, row, actor, events counted, sort of act + 1, act)."""
    batch, view = data.batch, data.registry
    if not pieces:
        nothing = np.empty(0, np.int64)
        pieces = [(nothing, nothing, nothing, nothing, 0, np.uint64(0))]
    sizes = [len(piece[0]) for piece in pieces]

    def column(i: int, dtype: Any) -> npt.NDArray[Any]:
        return np.concatenate(
            [
                np.broadcast_to(np.asarray(p[i], dtype), n)
                for p, n in zip(pieces, sizes, strict=True)
            ]
        )

    time, row, actor = column(0, np.int64), column(1, np.int64), column(2, np.int32)
    rows: Rows = {
        "seq": data.seq_base + row,
        "time": time,
        "event_key": batch.event_key[row],
        "actor": actor,
        "type": view.party_type[actor],
        "events": column(3, np.int32),
        "sort": column(4, np.int8) - np.int8(1),
        "act": column(5, np.uint64),
    }
    # The counts stand by day; only the acts behind them are out of order.
    return taken(rows, np.argsort(time, kind="stable")) if sizes[-1] else rows


@kernel
def _count_actors(actor: npt.NDArray[np.int32], count: Int64) -> None:
    for i in range(len(actor)):
        count[actor[i]] += 1


@kernel
def _late(time: Int64, record_time: Int64, limit: int, rows: Int64) -> int:
    """Write the rows recorded more than ``limit`` µs late, as far as there is room; return how many."""
    m = 0
    for i in range(len(time)):
        if record_time[i] - time[i] > limit and record_time[i] != _MISSING_TIME:
            end = time[i] + _DAY if time[i] % _DAY == 0 else time[i]
            if record_time[i] - end > limit:
                if m < len(rows):
                    rows[m] = i
                m += 1
    return m


def _acts(
    data: Slice, p: RecordTamperingParameters
) -> tuple[Int64, npt.NDArray[np.int8], npt.NDArray[np.uint64]]:
    """Return the rows that are acts, of which sort, and what makes several of them one."""
    batch, custody = data.batch, data.custody
    rows = data.rows_of(Role.VOID)
    rows = rows[(custody.signal[rows] & np.uint32(VOID_UNMATCHED)) == 0]
    rows = rows[~_corrected_at_once(data, rows, p.correction_hours)]
    aside = data.rows_of(Role.NONE)
    replaced = aside[batch.kind[aside] == int(EventKind.CODE_REPLACEMENT)]
    edits = np.concatenate([rows, replaced])
    late = np.empty(16, np.int64)
    while (m := _late(batch.time, batch.record_time, p.backdate_days * DAY, late)) > len(late):
        late = np.empty(m, np.int64)
    late = late[:m]
    bill = batch.bill[edits]
    acts = np.concatenate(
        [
            np.where(bill != 0, bill, batch.event_key[edits]),
            (batch.record_time[late] // DAY).astype(np.uint64),
        ]
    )
    sort = np.repeat(np.array([BILL, RECORDED], np.int8), [len(edits), len(late)])
    return np.concatenate([edits, late]), sort, acts


def _corrected_at_once(data: Slice, voids: Int64, hours: int) -> npt.NDArray[np.bool_]:
    """Return which voids name an event so recent that they are corrections."""
    batch = data.batch
    out = np.zeros(len(voids), np.bool_)
    open_ones = np.arange(len(voids))
    before = data.custody.previous[voids]
    # Back along the path of each code; voids are few and paths short.
    while len(open_ones := open_ones[before >= 0]):
        before = before[before >= 0]
        past = data.look_up(["time", "event_key", "previous"], before)
        rows = voids[open_ones]
        named = past["event_key"] == batch.voids[rows]
        age = batch.time[rows] - past["time"] - np.where(past["time"] % DAY == 0, DAY, 0)
        out[open_ones] = named & (age <= hours * HOUR)
        open_ones, before = open_ones[~named], past["previous"][~named]
    return out

"""The way of one pack, as data for the report and as text for a case officer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.contents import borrowed_events
from trace_engine.events.batch import DATE_ONLY, DAY, Vocabulary
from trace_engine.events.kinds import INFO, KINDS, EventKind, Role
from trace_engine.registry.regions import load_regions

if TYPE_CHECKING:
    from trace_engine.core.contents import Holder
    from trace_engine.core.eventlog import EventLog
    from trace_engine.registry import RegistryView

_SENDING = frozenset({Role.SHIP, Role.RETURN_SHIP, Role.TRANSFER_SHIP, Role.RECALL_SHIP})
_RECEIVING = frozenset(
    {Role.RECEIVE, Role.RETURN_RECEIVE, Role.TRANSFER_RECEIVE, Role.RECALL_RECEIVE}
)

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - wall clock by convention
_KIND = {int(k.kind): k for k in KINDS}

PathEvent = dict[str, Any]
Int64 = npt.NDArray[np.int64]


def time_text(time: int, date_only: bool) -> str:
    """Return ``2026-03-01`` or ``2026-03-01 10:02:33`` for µs of the Shanghai wall clock."""
    text = (_EPOCH + dt.timedelta(microseconds=time)).isoformat(" ", "seconds")
    return text[:10] if date_only else text


def with_borrowed(
    holder: Holder, leads: Int64, offsets: Int64, numbers: Int64
) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
    """Add to the paths of codes (up to the events ``leads``) what their cases went through.

    Returns (offsets (m+1,), log numbers, which of them are events of what the code was in).
    """
    if len(holder.shards.packages) == 0 or len(leads) == 0:
        return offsets, numbers, np.zeros(len(numbers), np.bool_)
    at = holder.log.columns(["code", "time"], leads)
    lent_offsets, lent = borrowed_events(holder, at["code"])
    own_time, lent_time = (holder.log.column("time", some) for some in (numbers, lent))
    paths, marks = [], []
    for i in range(len(leads)):
        own = slice(int(offsets[i]), int(offsets[i + 1]))
        more = slice(int(lent_offsets[i]), int(lent_offsets[i + 1]))
        known = lent_time[more] // DAY <= at["time"][i] // DAY
        # Own events keep their order, whatever their times; the others stand where time puts them.
        when = np.maximum.accumulate(own_time[own])
        place = np.searchsorted(when, lent_time[more][known], side="right")
        paths.append(np.insert(numbers[own], place, lent[more][known]))
        marks.append(np.insert(np.zeros(len(when), np.bool_), place, True))
    ends = np.cumsum([0, *map(len, paths)])
    return ends, np.concatenate(paths), np.concatenate(marks)


def path_events(
    seqs: npt.NDArray[np.int64],
    log: EventLog,
    vocabulary: Vocabulary,
    view: RegistryView,
    borrowed: npt.NDArray[np.bool_] | None = None,
) -> list[PathEvent]:
    """Return the events ``seqs`` as dictionaries of text and numbers, in the order given.

    Those ``borrowed`` also say ``inside``: the code they are events of, which held the other.
    """
    regions = load_regions()
    names = (
        "time", "kind", "flags", "actor", "source", "target", "source_region", "target_region",
        "price", "quantity",
    )  # fmt: skip
    columns = {name: values.tolist() for name, values in log.columns(names, seqs).items()}
    texts = log.texts(["event_id", "bill_code"], seqs)
    event_ids, bills = texts["event_id"], texts["bill_code"]
    parties = vocabulary.parties
    name_of = lru_cache(maxsize=None)(lambda p: view.party_name(p) if p >= 0 else "")
    events: list[PathEvent] = []
    for i in range(len(seqs)):
        info = _KIND[columns["kind"][i]]
        source, target = columns["source"][i], columns["target"][i]
        price = columns["price"][i]
        date_only = bool(columns["flags"][i] & DATE_ONLY)
        events.append(
            {
                "event_id": event_ids[i],
                "time": time_text(columns["time"][i], date_only),
                "date_only": date_only,
                "kind": info.name,
                "kind_zh": info.title_zh,
                "actor": parties.text(columns["actor"][i]),
                "source": parties.text(source),
                "target": parties.text(target),
                "source_name": name_of(source),
                "target_name": name_of(target),
                "source_region": place_of(regions, columns["source_region"][i], source, view),
                "target_region": place_of(regions, columns["target_region"][i], target, view),
                "price": None if price < 0 else price / 100,
                "quantity": columns["quantity"][i],
                "bill_code": bills[i],
            }
        )
    moved = np.flatnonzero(borrowed) if borrowed is not None else np.empty(0, np.int64)
    for i, code in zip(moved.tolist(), log.column("code", seqs[moved]).tolist(), strict=True):
        events[i]["inside"] = vocabulary.code_text(code)
    return events


def place_of(regions: Any, stated: int, party: int, view: RegistryView) -> str:
    """Return the region code stated for a side of an event, else the party's registered one."""
    if stated >= 0:
        return str(regions.code(stated))
    return view.party_region_code(party) if party >= 0 else ""


@dataclass(slots=True)
class _Step:
    """One stop on the way of a pack: a party, a person or its end."""

    text: str
    linked: bool  # whether it came from the step before
    day: str = ""  # of the first record of the move
    giver: str = ""
    receiver: str = ""
    sent: bool = False
    received: bool = False
    back: bool = False  # a return
    inside: bool = False  # in its case, which was scanned in its place

    def shown(self, lang: str) -> str:
        """Return the stop with its day."""
        if not self.day:
            return self.text
        if lang == "zh":
            marks = ("退货 " if self.back else "") + ("随箱 " if self.inside else "")
            return f"{self.text}（{marks}{self.day}）"
        marks = ("return " if self.back else "") + ("in its case " if self.inside else "")
        return f"{self.text} ({marks}{self.day})"


def path_text(events: Sequence[PathEvent], lang: str) -> str:
    """Return the parties a pack went through, as one line.

    A shipment and its receipt are one arrow, so that arrows can be counted as changes of hands. A
    semicolon stands where no record says how the pack came from the one to the other.
    """
    regions = load_regions()
    steps: list[_Step] = []
    last = ""
    for event in events:
        role = INFO[EventKind(_NUMBER[event["kind"]])].role
        giver = event["source_name"] or event["source"]
        receiver = event["target_name"] or event["target"]
        day = event["time"][:10]
        if role in (Role.NONE, Role.VOID, Role.STOCK_CHANGE):
            continue
        if role in _SENDING | _RECEIVING and _same_move(steps, giver, receiver, role):
            continue
        if giver and giver != last:
            steps.append(_Step(giver + _province(regions, event["source_region"], lang), False))
            last = giver
        if role in (Role.PERSON_SALE, Role.DESTROY):
            end = "个人" if lang == "zh" else "a person"
            if role == Role.DESTROY:
                end = event["kind_zh"] if lang == "zh" else event["kind"].replace("_", " ")
            steps.append(_Step(end, bool(last), day))
            last = ""
        elif receiver and receiver != last:
            place = _province(regions, event["target_region"], lang)
            came_back = role == Role.CONSUMER_RETURN and bool(steps)
            steps.append(
                _Step(
                    receiver + place,
                    bool(giver) or came_back,
                    day,
                    giver,
                    receiver,
                    sent=role in _SENDING,
                    received=role in _RECEIVING,
                    back=role in (Role.RETURN_SHIP, Role.RETURN_RECEIVE, Role.CONSUMER_RETURN),
                    inside="inside" in event,
                )
            )
            last = receiver
    text = ""
    for step in steps:
        between = " → " if step.linked else ("；" if lang == "zh" else "; ")
        text += (between if text else "") + step.shown(lang)
    return text


def _same_move(steps: Sequence[_Step], giver: str, receiver: str, role: Role) -> bool:
    """Return whether a step already tells the other side of this move, and close that step.

    A receipt may come when the pack is long gone on; a shipment only directly after its receipt.
    """
    if not giver or not receiver:
        return False
    if role in _RECEIVING:
        for step in reversed(steps):
            if step.sent and not step.received and (step.giver, step.receiver) == (giver, receiver):
                step.received = True
                return True
        return False
    newest = steps[-1] if steps else None
    if newest and newest.received and not newest.sent:
        newest.sent = (newest.giver, newest.receiver) == (giver, receiver)
        return newest.sent
    return False


def _province(regions: Any, code: str, lang: str) -> str:
    index = regions.index(code) if code else -1
    if index < 0:
        return ""
    name = regions.province_names.get(code[:2], "")
    return f"〔{name}〕" if lang == "zh" else f" [{name}]"


_PAIRS = (
    (Role.SHIP, Role.RECEIVE),
    (Role.RETURN_SHIP, Role.RETURN_RECEIVE),
    (Role.TRANSFER_SHIP, Role.TRANSFER_RECEIVE),
    (Role.RECALL_SHIP, Role.RECALL_RECEIVE),
)
_OTHER_SIDE = dict(_PAIRS) | {receipt: shipment for shipment, receipt in _PAIRS}
_NUMBER = {k.name: int(k.kind) for k in KINDS}

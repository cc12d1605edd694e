"""The way of one pack, as data for the report and as text for a case officer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.events.batch import DATE_ONLY, Vocabulary
from trace_engine.events.kinds import INFO, KINDS, EventKind, Role
from trace_engine.registry.regions import load_regions

if TYPE_CHECKING:
    from trace_engine.core.eventlog import EventLog
    from trace_engine.registry import RegistryView

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - wall clock by convention
_KIND = {int(k.kind): k for k in KINDS}

PathEvent = dict[str, Any]


def time_text(time: int, date_only: bool) -> str:
    """Return ``2026-03-01`` or ``2026-03-01 10:02:33`` for µs of the Shanghai wall clock."""
    text = (_EPOCH + dt.timedelta(microseconds=time)).isoformat(" ", "seconds")
    return text[:10] if date_only else text


def path_events(
    seqs: npt.NDArray[np.int64], log: EventLog, vocabulary: Vocabulary, view: RegistryView
) -> list[PathEvent]:
    """Return the events ``seqs`` as dictionaries of text and numbers, in the order given."""
    regions = load_regions()
    columns = {
        name: log.column(name, seqs).tolist()
        for name in (
            "time",
            "kind",
            "flags",
            "actor",
            "source",
            "target",
            "source_region",
            "target_region",
            "price",
            "quantity",
        )
    }
    event_ids = log.text("event_id", seqs)
    bills = log.text("bill_code", seqs)
    parties = vocabulary.parties
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
                "source_name": view.party_name(source) if source >= 0 else "",
                "target_name": view.party_name(target) if target >= 0 else "",
                "source_region": _place(regions, columns["source_region"][i], source, view),
                "target_region": _place(regions, columns["target_region"][i], target, view),
                "price": None if price < 0 else price / 100,
                "quantity": columns["quantity"][i],
                "bill_code": bills[i],
            }
        )
    return events


def _place(regions: Any, stated: int, party: int, view: RegistryView) -> str:
    if stated >= 0:
        return str(regions.code(stated))
    return view.party_region_code(party) if party >= 0 else ""


def path_text(events: Sequence[PathEvent], lang: str) -> str:
    """Return the owners a pack went through, as one line, each hop once.

    Shipment and receipt of one hop follow each other in either order (bills often carry dates
    only); the later of the two adds nothing.
    """
    regions = load_regions()
    parts: list[str] = []
    last = ""
    half: dict[tuple[str, str], Role] = {}  # giver and receiver -> the side that was told
    for event in events:
        role = INFO[EventKind(_NUMBER[event["kind"]])].role
        giver = event["source_name"] or event["source"]
        receiver = event["target_name"] or event["target"]
        day = event["time"][:10]
        if role in (Role.NONE, Role.VOID, Role.STOCK_CHANGE):
            continue
        if role in _OTHER_SIDE and event["source"] and event["target"]:
            hop = (event["source"], event["target"])
            if half.get(hop) == _OTHER_SIDE[role]:
                del half[hop]
                continue
            half[hop] = role
        if giver and giver != last:
            parts.append(giver + _province(regions, event["source_region"], lang))
            last = giver
        if role == Role.PERSON_SALE:
            parts.append(f"个人（{day}）" if lang == "zh" else f"a person ({day})")
            last = ""
        elif receiver and receiver != last:
            place = _province(regions, event["target_region"], lang)
            parts.append(
                f"{receiver}{place}（{day}）" if lang == "zh" else f"{receiver}{place} ({day})"
            )
            last = receiver
    return " → ".join(parts)


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

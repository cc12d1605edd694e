"""What the plain detectors see: enriched events of all codes, late hops, registry, thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tests.reference.events import Event, deduplicate
from tests.reference.state import Enriched, Waiting
from tests.reference.story import run
from tests.reference.world import Settings, World


@dataclass(frozen=True, order=True)
class RawHit:
    """One event (or deadline) that fired, before hits of one cause are grouped."""

    detector: str
    event_id: str
    observed: float
    subject: str | None
    counterparty: str | None
    time: int


@dataclass
class History:
    """The whole input, decided upon once."""

    rows: list[Enriched]
    waiting: list[Waiting]
    world: World
    settings: Settings
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lists: Mapping[str, Any] = field(default_factory=dict)
    data_begin: int = 0
    last_day: int = 0

    def __iter__(self) -> Iterator[Enriched]:
        return iter(self.rows)

    def by_time(self) -> list[Enriched]:
        """Return the rows of all codes by time (equal times: by key)."""
        return sorted(self.rows, key=lambda row: (row.event.time, row.event.key))

    def p(self, detector: str) -> Any:
        """Return the thresholds of a detector as attributes."""
        return SimpleNamespace(**self.parameters.get(detector, {}))


def history_of(
    events: Iterable[Event],
    world: World,
    settings: Settings | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    lists: Mapping[str, Any] | None = None,
) -> History:
    """Drop duplicates and run custody."""
    chosen = settings or Settings()
    accepted, _, _ = deduplicate(events, chosen.deduplication_days)
    last_day = max((event.day for event in accepted), default=0)
    rows, waiting = run(accepted, world, chosen, last_day)
    return History(
        rows=rows,
        waiting=waiting,
        world=world,
        settings=chosen,
        parameters=parameters or {},
        lists=lists or {},
        data_begin=min((event.time for event in accepted), default=0),
        last_day=last_day,
    )


NOBODY = "\0nobody"  # a side that a detector leaves out on purpose


def hit(
    detector: str,
    row: Enriched,
    observed: float,
    subject: str | None = None,
    counterparty: str | None = None,
    time: int | None = None,
) -> RawHit:
    """Build a hit; unless stated, the subject is the event's giver, the counterparty its receiver."""
    event = row.event
    other = event.receiver if counterparty is None else counterparty
    return RawHit(
        detector,
        event.event_id,
        float(observed),
        event.giver if subject is None else subject,
        None if other == NOBODY else other,
        event.time if time is None else time,
    )

"""All codes of an input: with what they borrow, and with what was made void taken out again.

docs/semantics.md, "VOID" and "Aggregation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.reference.custody import Code
from tests.reference.events import Event
from tests.reference.inside import Aggregation
from tests.reference.state import Enriched, Waiting
from tests.reference.world import Settings, World
from trace_engine.core import signals as s
from trace_engine.events.kinds import Role


class Voids:
    """Which events of one code are made void, by what, and when."""

    def __init__(self, order: list[Event]) -> None:
        self.void: list[Event] = []  # in the order they were made so
        self.days: list[int] = []
        self.before: dict[int, int] = {}  # id of an event -> voids up to and with it
        self.unmatched: set[int] = set()
        for position, event in enumerate(order):
            if event.role == Role.VOID:
                named = [
                    earlier
                    for earlier in order[:position]
                    if earlier.key == event.voids and earlier.role != Role.VOID
                ]
                if named and named[-1] not in self.void:
                    self.void.append(named[-1])
                    self.days.append(event.day)
                else:
                    self.unmatched.add(id(event))
            self.before[id(event)] = len(self.void)

    def known(self, day: int) -> int:
        """Return how many were made void by the end of ``day``."""
        return sum(when <= day for when in self.days)


class Story:
    """The tellings of one code: by what was made void, and by what was known of its parents."""

    def __init__(
        self,
        code: str,
        events: list[Event],
        world: World,
        settings: Callable[[int], Settings],
        last_day: int,
    ) -> None:
        self.code, self.events, self.world = code, events, world
        self.settings, self.last_day = settings, last_day
        self.voids = Voids(self._tell([], []).done)
        self._told: dict[tuple[int, frozenset[int]], Code] = {}

    def _tell(self, void: list[Event], borrowed: list[Event]) -> Code:
        told = Code(self.world, self.settings)
        told.live([e for e in self.events if e not in void] + borrowed, self.last_day)
        return told

    def telling(self, voids: int, known: Aggregation) -> Code:
        """Return the telling without the first ``voids`` voided events."""
        borrowed = known.borrowed(self.code)
        key = (voids, frozenset(id(event) for event in borrowed))
        if key not in self._told:
            self._told[key] = self._tell(self.voids.void[:voids], borrowed)
        return self._told[key]

    def rows(self, known: Callable[[int], Aggregation]) -> list[Enriched]:
        """Return what each own event shows, in order."""
        rows = []
        for event in self.events:
            view = known(event.day)
            telling = self.telling(self.voids.before[id(event)], view)
            place, row = next((i, r) for i, r in enumerate(telling.out) if r.event is event)
            own = [r.event for r in telling.out[:place] if r.event.code == self.code]
            row.previous = own[-1] if own else None
            row.signal |= s.VOID_UNMATCHED if id(event) in self.voids.unmatched else 0
            if any(pack.day <= event.day for pack in view.packed.get(self.code, [])):
                row.signal &= ~s.UNKNOWN_SOURCE
            rows.append((event.day, self.voids.before[id(event)], place, row))
        return [row for *_, row in sorted(rows, key=lambda entry: entry[:3])]

    def late(self, known: Callable[[int], Aggregation]) -> list[Waiting]:
        """Return what fell due and was told nowhere else."""
        due = {
            event.day + days + 1
            for event in self.events
            for days in (
                self.settings(event.day).unmatched_shipment_days,
                self.settings(event.day).unmatched_receipt_days,
            )
        }
        found = []
        for day in sorted(due):
            view = known(day - 1)
            for late in self.telling(self.voids.known(day - 1), view).waiting:
                own = any(late.event is event for event in self.events)
                if late.deadline != day or not own:
                    continue
                if not view.told_elsewhere(late, self.code, self.world):
                    found.append(late)
        return found


def run(
    events: Iterable[Event],
    world: World,
    settings: Settings | Callable[[int], Settings] | None = None,
    last_day: int | None = None,
) -> tuple[list[Enriched], list[Waiting]]:
    """Return custody of all codes: enriched events (by code, in canonical order) and late hops."""
    listed = list(events)
    chosen = settings or Settings()
    by_day = chosen if callable(chosen) else (lambda day: chosen)
    if last_day is None:
        last_day = max((event.day for event in listed), default=0)
    stories, known = stories_of(listed, world, by_day, last_day)
    rows: list[Enriched] = []
    waiting: list[Waiting] = []
    for story in stories:
        rows += story.rows(known)
        waiting += story.late(known)
    return rows, waiting


def stories_of(
    listed: list[Event], world: World, by_day: Callable[[int], Settings], last_day: int
) -> tuple[list[Story], Callable[[int], Aggregation]]:
    """Return the stories of all codes, and what gives packing as known on a day."""
    by_code: dict[str, list[Event]] = {}
    for event in listed:
        by_code.setdefault(event.code, []).append(event)
    stories = [Story(name, by_code[name], world, by_day, last_day) for name in sorted(by_code)]
    void_day: dict[int, int] = {}
    for story in stories:
        for event, day in zip(story.voids.void, story.voids.days, strict=True):
            void_day[id(event)] = day
    views: dict[int, Aggregation] = {}
    changes = sorted(set(void_day.values()))

    def known(day: int) -> Aggregation:
        number = sum(change <= day for change in changes)
        if number not in views:
            as_of = changes[number - 1] if number else -(10**9)
            views[number] = Aggregation(listed, void_day, as_of)
        return views[number]

    return stories, known

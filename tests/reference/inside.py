"""What was in what, told slowly: docs/semantics.md, "Aggregation", line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.reference.events import DAY, Event
from tests.reference.state import Waiting
from tests.reference.world import World
from trace_engine.events.kinds import EventKind, Role

LEVELS = 4  # links up (or down) that count
MOVEMENTS = {
    Role.SHIP,
    Role.RECEIVE,
    Role.RETURN_SHIP,
    Role.RETURN_RECEIVE,
    Role.TRANSFER_SHIP,
    Role.TRANSFER_RECEIVE,
    Role.RECALL_SHIP,
    Role.RECALL_RECEIVE,
}
ENDS = {Role.PERSON_SALE, Role.DESTROY}


@dataclass(frozen=True)
class Death(Event):
    """The end of a code that another replaced."""

    @property
    def role(self) -> Role:
        return Role.DESTROY


@dataclass(frozen=True)
class Link:
    """A code was in ``parent`` from the time of ``opener`` to ``until`` (None: it still is)."""

    parent: str
    opener: Event
    since: int
    until: int | None

    def meets(self, event: Event) -> bool:
        return end_of(event) >= self.since and (self.until is None or event.time <= self.until)


def end_of(event: Event) -> int:
    """Return the last moment of the span of an event."""
    return event.time + DAY - 1 if event.date_only else event.time


def states_parent(event: Event) -> bool:
    if event.parent is None or event.parent == event.code:
        return False
    return event.kind == EventKind.PACK or event.role not in (Role.NONE, Role.VOID)


def replaces(event: Event) -> bool:
    named = event.parent is not None and event.parent != event.code
    return event.kind == EventKind.CODE_REPLACEMENT and named


def empties(event: Event) -> bool:
    return event.kind == EventKind.UNPACK and event.parent is None


class Aggregation:
    """All events of an input, as known on one day."""

    def __init__(self, events: Iterable[Event], void_day: Mapping[int, int], day: int) -> None:
        self.own: dict[str, list[Event]] = {}
        for event in events:
            if event.role != Role.VOID and void_day.get(id(event), day + 1) > day:
                self.own.setdefault(event.code, []).append(event)
        for listed in self.own.values():
            listed.sort(key=lambda e: (e.time, e.key))
        self.successors: dict[str, list[Event]] = {}
        self.packed: dict[str, list[Event]] = {}
        for code in sorted(self.own):
            for event in self.own[code]:
                if replaces(event):
                    self.successors.setdefault(str(event.parent), []).append(event)
                if event.kind == EventKind.PACK and states_parent(event):
                    self.packed.setdefault(str(event.parent), []).append(event)
        self.deaths = {
            code: [Death(**vars(event)) for event in replaced]
            for code, replaced in self.successors.items()
        }
        self._links: dict[tuple[str, int], list[Link]] = {}
        self._stories: dict[tuple[str, int], list[Event]] = {}

    # ------------------------------------------------------------ links

    def links(self, code: str, levels: int = LEVELS) -> list[Link]:
        """Return the links of a code by time, looking ``levels`` links up."""
        if levels == 0:
            return []
        if (code, levels) not in self._links:
            self._links[code, levels] = self._walk(code, levels)
        return self._links[code, levels]

    def _walk(self, code: str, levels: int) -> list[Link]:
        links: list[Link] = []
        parent: str | None = None
        opener: Event | None = None
        rejoins: tuple[str, Event] | None = None  # left, but follows from this event on

        def close(until: int | None) -> None:
            nonlocal parent, opener
            assert parent is not None
            assert opener is not None
            links.append(Link(parent, opener, opener.time, until))
            parent = opener = None

        def opened(where: str, event: Event) -> None:
            nonlocal parent, opener
            parent, opener = where, event

        for event in sorted(self.own.get(code, []), key=step_of):
            if rejoins is not None and rejoins[1].time < event.time:
                opened(*rejoins)
                rejoins = None
            if parent is not None and opener is not None:
                emptied = self.emptied(parent, opener)
                if emptied is not None and emptied.time < event.time:
                    close(end_of(emptied))
            if replaces(event):
                before = self.place_of(str(event.parent), event, levels - 1)
                if parent is None and before is not None and before != code:
                    opened(before, event)
            if states_parent(event):
                if parent not in (None, event.parent):
                    close(end_of(event))
                if parent is None:
                    opened(str(event.parent), event)
            if states_parent(event) or event.role in ENDS or event.role in MOVEMENTS:
                rejoins = None
            if parent is None:
                continue
            taken_out = event.kind == EventKind.UNPACK and event.parent == parent
            left = (
                event.role in MOVEMENTS
                and not states_parent(event)
                and not self.goes_along(event, parent, levels - 1)
            )
            if left:
                rejoins = self.followed_by(event, parent, levels - 1)
            if event.role in ENDS or taken_out or left:
                close(end_of(event))
        if rejoins is not None:
            opened(*rejoins)
        if parent is not None and opener is not None:
            emptied = self.emptied(parent, opener)
            close(None if emptied is None else end_of(emptied))
        return links

    def emptied(self, parent: str, opener: Event) -> Event | None:
        """Return the first event that emptied ``parent`` after ``opener``."""
        for event in self.own.get(parent, []):
            timed = not event.date_only and not opener.date_only
            later = event.day > opener.day or (
                event.day == opener.day and timed and event.time > opener.time
            )
            if empties(event) and later:
                return event
        return None

    def place_of(self, code: str, event: Event, levels: int) -> str | None:
        """Return what ``code`` was last in when ``event`` happened."""
        found = [
            link
            for link in self.links(code, levels)
            if link.since <= end_of(event) and (link.until is None or link.until >= event.time)
        ]
        return found[-1].parent if found else None

    def goes_along(self, event: Event, parent: str, levels: int) -> bool:
        story = self.story(parent, levels)
        if event.bill is not None and any(
            other.bill == event.bill and other.day <= event.day for other in story
        ):
            return True
        if event.receiver is None:
            return False
        moves = [other for other in story if other.role in MOVEMENTS]
        near = [other for other in moves if other.day == event.day]
        near += [other for other in moves if other.day < event.day][-1:]
        return any(other.receiver == event.receiver for other in near)

    def followed_by(self, event: Event, parent: str, levels: int) -> tuple[str, Event] | None:
        """Return the parent and its next movement, if that goes where ``event`` went."""
        later = [
            other
            for other in self.story(parent, levels)
            if other.role in MOVEMENTS and other.day > event.day
        ]
        if later and event.receiver is not None and later[0].receiver == event.receiver:
            return parent, later[0]
        return None

    # ------------------------------------------------------------ stories

    def story(self, code: str, levels: int = LEVELS) -> list[Event]:
        """Return own and borrowed events of a code by (time, key)."""
        if (code, levels) not in self._stories:
            self._stories[code, levels] = self._told(code, levels)
        return self._stories[code, levels]

    def _told(self, code: str, levels: int) -> list[Event]:
        own = self.own.get(code, [])
        borrowed: dict[int, Event] = {}
        if levels > 0:
            for link in self.links(code, levels):
                for event in self.story(link.parent, levels - 1):
                    if link.meets(event):
                        borrowed[id(event)] = event
                for successor in self.successors.get(link.parent, []):
                    if not link.meets(successor):
                        continue
                    for event in self.story(successor.code, levels - 1):
                        if link.meets(event) and end_of(event) >= successor.time:
                            borrowed[id(event)] = event
        sold = {(e.giver, e.day) for e in own if e.role == Role.PERSON_SALE}
        lent = [
            event
            for event in borrowed.values()
            if event.code != code
            and not (event.role == Role.PERSON_SALE and (event.giver, event.day) in sold)
        ]
        mine = [event for event in own if event.role not in (Role.NONE, Role.VOID)]
        return sorted(mine + lent, key=lambda e: (e.time, e.key))

    def borrowed(self, code: str) -> list[Event]:
        """Return what the code borrows, its death by replacement among it."""
        found = {id(event): event for event in self.story(code)}
        for event in self.inherited(code, LEVELS):
            found[id(event)] = event
        lent = [event for event in found.values() if event.code != code]
        return lent + self.deaths.get(code, [])  # type: ignore[operator]

    def inherited(self, code: str, times: int) -> list[Event]:
        """Return what the code went through under its old name, ``times`` replacements back."""
        own = self.own.get(code, [])
        found = []
        for event in own:
            known = any(e.role != Role.NONE and e.day < event.day for e in own)
            if times > 0 and replaces(event) and not known:
                old = str(event.parent)
                before = self.story(old) + self.inherited(old, times - 1)
                found += [e for e in before if e.time <= end_of(event)]
        return found

    # ------------------------------------------------------------ two levels, one movement

    def inside(self, code: str, event: Event) -> set[str]:
        """Return the codes that were in ``code`` at the time of ``event``."""
        found: set[str] = set()
        frontier = {code}
        for _ in range(LEVELS):
            frontier = {
                child
                for outer in frontier
                for child in self.own
                if any(link.parent == outer and link.meets(event) for link in self.links(child))
            }
            frontier -= found | {code}  # a circle makes no sense
            found |= frontier
        return found

    def told_elsewhere(self, late: Waiting, code: str, world: World) -> bool:
        """Return whether the half that is missing was told at another level."""
        event, party = late.event, late.event.receiver
        for child in self.inside(code, event):
            for other in self.own.get(child, []):
                if other.day >= late.deadline or not world.related(other.receiver, party):
                    continue
                if late.shipment and other.role == Role.RECEIVE and other.day >= event.day:
                    return True
                if not late.shipment and other.role == Role.SHIP:
                    return True
        if late.shipment:
            return False
        return any(
            other.role == Role.SHIP
            and other.day < late.deadline
            and world.related(other.receiver, party)
            for link in self.links(code)
            if link.meets(event)
            for other in self.story(link.parent)
        )


def step_of(event: Event) -> tuple[int, int, int]:
    """Return the place of an own event in the walk that opens and closes links."""
    if event.role in ENDS:
        return event.time, 2, event.key
    return event.time, 0 if states_parent(event) or replaces(event) else 1, event.key

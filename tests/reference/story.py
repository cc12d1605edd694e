"""All codes of an input, with what was made void taken out again (docs/semantics.md, "VOID")."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.reference.custody import Code
from tests.reference.events import Event
from tests.reference.state import Enriched, Waiting
from tests.reference.world import Settings, World
from trace_engine.core import signals as s
from trace_engine.events.kinds import Role


def tell(
    events: list[Event], world: World, settings: Callable[[int], Settings], last_day: int
) -> tuple[list[Enriched], list[Waiting]]:
    """Tell the life of one code, and again without each event that is made void.

    What an event shows is taken from the telling that lacks just what was made void before it; so
    is each deadline, from the telling that lacks what was made void on earlier days.
    """

    def told(without: list[Event]) -> Code:
        code = Code(world, settings)
        code.live([event for event in events if event not in without], last_day)
        return code

    first = told([])
    void: list[Event] = []  # in the order they were made so
    void_days: list[int] = []
    voids_before: dict[str, int] = {}
    unmatched: set[str] = set()
    for position, event in enumerate(first.done):
        if event.role == Role.VOID:
            named = [
                earlier
                for earlier in first.done[:position]
                if earlier.key == event.voids and earlier.role != Role.VOID
            ]
            if named and named[-1] not in void:
                void.append(named[-1])
                void_days.append(event.day)
            else:
                unmatched.add(event.event_id)
        voids_before[event.event_id] = len(void)
    tellings = [first] + [told(void[: count + 1]) for count in range(len(void))]
    rows = []
    for previous, event in zip([None, *first.done], first.done, strict=False):
        telling = tellings[voids_before[event.event_id]]
        row = next(row for row in telling.out if row.event is event)
        row.previous = previous
        row.signal |= s.VOID_UNMATCHED if event.event_id in unmatched else 0
        rows.append(row)
    waiting = [
        late
        for count, telling in enumerate(tellings)
        for late in telling.waiting
        if count == sum(day < late.deadline for day in void_days)
    ]
    return rows, waiting


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
    by_code: dict[str, list[Event]] = {}
    for event in listed:
        by_code.setdefault(event.code, []).append(event)
    rows: list[Enriched] = []
    waiting: list[Waiting] = []
    for name in sorted(by_code):
        more, late = tell(by_code[name], world, by_day, last_day)
        rows += more
        waiting += late
    return rows, waiting

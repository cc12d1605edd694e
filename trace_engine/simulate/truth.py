"""What was planted: schemes with their answerable sellers, benign twins, touched codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SUBJECT = "subject"  # answerable: a ranking should bring it up
PARTICIPANT = "participant"  # took part, knowingly or not


@dataclass(frozen=True, slots=True)
class Scheme:
    """One planted case seen from one party: what detector must say so, on which events."""

    scheme_id: str
    detector: str
    variant: str
    party: int
    role: str
    codes: tuple[int, ...]
    uids: tuple[int, ...]  # the events that are wrong
    first_time: int  # seconds
    last_time: int


@dataclass(frozen=True, slots=True)
class Benign:
    """One pack or order that looks like a scheme and is none."""

    kind: str
    codes: tuple[int, ...]
    uids: tuple[int, ...]


@dataclass
class Truth:
    """Everything planted, in the simulator's own numbers."""

    schemes: list[Scheme] = field(default_factory=list)
    benign: list[Benign] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)  # codes of schemes and data errors
    cases: int = 0
    blames: bool = True  # whether subjects recorded now are guilty, not only answerable
    guilty: set[int] = field(default_factory=set)

    def add(
        self,
        detector: str,
        parties: Sequence[tuple[int, str]],
        codes: Iterable[int],
        events: Iterable[tuple[int, int]],
        variant: str = "",
    ) -> None:
        """Record one case: ``parties`` with role, ``events`` as (uid, time in seconds)."""
        listed, placed = tuple(codes), tuple(events)
        times = [time for _, time in placed]
        self.cases += 1
        if self.blames:
            self.guilty.update(party for party, role in parties if role == SUBJECT)
        for party, role in parties:
            self.schemes.append(
                Scheme(
                    f"S{self.cases:06d}",
                    detector,
                    variant or detector,
                    party,
                    role,
                    listed,
                    tuple(uid for uid, _ in placed),
                    min(times),
                    max(times),
                )
            )
        self.touched.update(listed)

    def add_benign(self, kind: str, codes: Iterable[int], uids: Iterable[int]) -> None:
        """Record one benign twin."""
        self.benign.append(Benign(kind, tuple(codes), tuple(uids)))

    def cases_by_detector(self) -> dict[str, int]:
        """Return the number of cases of each detector."""
        cases = {s.scheme_id: s.detector for s in self.schemes}
        return _tally(cases.values())

    def benign_by_kind(self) -> dict[str, int]:
        """Return the number of benign twins of each kind."""
        return _tally(b.kind for b in self.benign)


def _tally(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))

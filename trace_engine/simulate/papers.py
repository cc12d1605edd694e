"""What stands on paper about goods and licences: batches, recalls, changes, territories."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Batch:
    """Batches as growing lists: drug number, production day and expiry day (days since 1970)."""

    drug: list[int] = field(default_factory=list)
    production: list[int] = field(default_factory=list)
    expiry: list[int] = field(default_factory=list)
    number: list[str] = field(default_factory=list)

    def add(self, drug: int, production: int, expiry: int, number: str) -> int:
        """Append a batch and return its number."""
        self.drug.append(drug)
        self.production.append(production)
        self.expiry.append(expiry)
        self.number.append(number)
        return len(self.drug) - 1


@dataclass(frozen=True, slots=True)
class Recall:
    """A recall of one batch from a day on (days since 1970); ``region`` empty: whole country."""

    drug: int
    batch: int
    level: int
    region: str
    day: int


@dataclass(frozen=True, slots=True)
class LicenceChange:
    """A change of a party's licence on a day (since 1970): ``kind`` as in ``licence_events``."""

    party: int
    kind: str
    day: int


@dataclass(frozen=True, slots=True)
class Territory:
    """A drug allotted to a province (two digits), to a party, or to both, from a day on.

    ``party`` NONE (-1): everybody there; ``province`` 0: everywhere. ``last_day`` 0: without end.
    """

    drug: int
    province: int = 0
    party: int = -1
    first_day: int = 0
    last_day: int = 0

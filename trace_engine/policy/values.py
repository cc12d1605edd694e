"""What a policy holds: values with periods, quotas, and rules that put drugs on lists."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

EPOCH = dt.date(1970, 1, 1)
FIRST_DAY = -(2**31)  # "from the beginning"

Route = Literal["oral", "topical", "injection", "inhaled"]


def day_number(date: dt.date) -> int:
    """Return days since 1970-01-01."""
    return (date - EPOCH).days


@dataclass(frozen=True, slots=True)
class Period:
    """A value and the days on which it holds: ``first`` to ``last`` inclusive, None = open."""

    value: Any
    unit: str
    source: str
    first: int
    last: int | None
    file: str
    line: int

    def holds(self, day: int) -> bool:
        """Return whether the value is in force on ``day``."""
        return self.first <= day and (self.last is None or day <= self.last)


class General(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values that no single detector owns."""

    clock_skew_minutes: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=720,
            description="How far one clock may be off",
            extra_json_schema={"unit": "minutes", "zh": "单个系统时钟允许的偏差"},
        ),
    ] = 10
    deduplication_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=3660,
            description="How long after its day an event id is remembered",
            extra_json_schema={"unit": "days", "zh": "事件编号去重的记忆天数"},
        ),
    ] = 31
    graph_detail_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=36600,
            description="How long the supply graph keeps batch, bill and day of an edge",
            extra_json_schema={"unit": "days", "zh": "流向图保留批号、单据和日期明细的天数"},
        ),
    ] = 400


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of a restricted class one person may buy.

    ``per_sale``: smallest packs in one sale, or None. ``windows``: (days, packs) pairs over all
    sellers. The two may rest on different sources.
    """

    class_name: str
    per_sale: int | None
    windows: tuple[tuple[int, int], ...]
    source: str
    windows_source: str = ""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rolling window of a quota."""

    days: Annotated[int, msgspec.Meta(ge=1, le=366)]
    packs: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class QuotaEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``[[quotas]]`` entry of a policy or list file."""

    class_name: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="class")
    source: Annotated[str, msgspec.Meta(min_length=1)]
    effective_from: dt.date
    effective_to: dt.date | None = None
    per_sale: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    windows: tuple[Window, ...] = ()
    note: str = ""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``[[rules]]`` entry: which drugs belong to ``list`` (``online_ban`` or a class name).

    A drug matches when it has one of ``classes``, or its generic name is one of ``names`` (after
    normalisation), or holds one of the texts ``contains`` (none of the three given: any drug); and
    its composition and route fit; and no exception applies. A name in ``names`` that begins with
    复方 means that compound and no other drug, whatever ``composition`` says; with ``composition``
    ``compound``, every name in ``names`` is taken to be that of a compound.
    """

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]+$")]
    list: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]+$")]
    title_zh: Annotated[str, msgspec.Meta(min_length=1)]
    title_en: Annotated[str, msgspec.Meta(min_length=1)]
    source: Annotated[str, msgspec.Meta(min_length=1)]
    effective_from: dt.date
    effective_to: dt.date | None = None
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    composition: Literal["any", "single", "compound"] = "any"
    routes: tuple[Route, ...] = ()
    except_classes: tuple[str, ...] = ()
    except_names: tuple[str, ...] = ()
    except_contains: tuple[str, ...] = ()
    except_routes: tuple[Route, ...] = ()
    note: str = ""

    def holds(self, day: int) -> bool:
        """Return whether the rule is in force on ``day``."""
        return day_number(self.effective_from) <= day and (
            self.effective_to is None or day <= day_number(self.effective_to)
        )

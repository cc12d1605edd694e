"""Reference data of the slow implementation: plain rows of the registry, and plain parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]

EARTH_KM = 6371.0088
LARGEST_PACK = 250  # split sales of larger packs are not followed


def great_circle_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the distance of two (longitude, latitude) points in km (haversine)."""
    lon1, lat1, lon2, lat2 = map(math.radians, (*a, *b))
    half = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(math.sqrt(half))


def units_per_pack(pack_spec: str) -> int | None:
    """Return units in one pack: ``12片×2板/盒`` 24, ``24粒/盒`` 24; None where it says nothing."""
    factors = re.findall(r"(?:^|[×x*])(\d+)(?=[片粒支袋丸贴枚板])", pack_spec)
    units = math.prod(int(factor) for factor in factors) if factors else 0
    return units if 0 < units <= LARGEST_PACK else None


def packs_in_case(pack_spec: str) -> int | None:
    """Return packs in one case: ``24片/盒×400盒/箱`` 400, ``1:400`` 400; None where it says nothing."""
    if ":" in pack_spec:
        return math.prod(int(part) for part in pack_spec.split(":"))
    whole, inner = re.fullmatch("(.*)/箱", pack_spec), 1
    while whole:
        *rest, step = re.split("[×x*]", whole[1])
        found = re.fullmatch(r"(\d+)(\D+)", step)
        if found is None or not rest:
            return None
        inner *= int(found[1])
        whole = re.fullmatch(f"(.*)/{found[2]}", "×".join(rest))
        if whole is None or "/" not in whole[1]:
            return inner
    return None


@dataclass(frozen=True)
class Settings:
    """Thresholds the reference uses; defaults as catalogued."""

    clock_skew_minutes: int = 10
    deduplication_days: int = 31
    history_from: int | None = None  # day from which history is whole
    dwell_hours: float = 72
    unmatched_shipment_days: int = 30
    unmatched_receipt_days: int = 3


@dataclass
class World:
    """Registry rows by id, coordinates by region code (from the engine's own table)."""

    enterprises: dict[str, Row] = field(default_factory=dict)
    drugs: dict[str, Row] = field(default_factory=dict)
    shops: dict[str, Row] = field(default_factory=dict)
    recalls: list[Row] = field(default_factory=list)
    shop_rows: list[Row] = field(default_factory=list)  # every row, also of one shop
    territories: list[Row] = field(default_factory=list)
    licence_events: list[Row] = field(default_factory=list)
    coordinates: Callable[[str], tuple[float, float] | None] = lambda code: None

    @staticmethod
    def of(
        enterprises: Iterable[Row] = (),
        drugs: Iterable[Row] = (),
        shops: Iterable[Row] = (),
        recalls: Iterable[Row] = (),
        territories: Iterable[Row] = (),
        licence_events: Iterable[Row] = (),
        coordinates: Callable[[str], tuple[float, float] | None] | None = None,
    ) -> World:
        """Return a world from rows of the registry folder."""
        shops = list(shops)
        return World(
            {str(r["enterprise_id"]): r for r in enterprises},
            {str(r["drug_id"]): r for r in drugs},
            {str(r["shop_id"]): r for r in shops},
            list(recalls),
            shops,
            list(territories),
            list(licence_events),
            coordinates or (lambda code: None),
        )

    # ------------------------------------------------------------ parties

    def known(self, party: str | None) -> bool:
        return party is not None and party in self.enterprises

    def text(self, party: str | None, column: str) -> str:
        row = self.enterprises.get(party or "", {})
        return str(row.get(column) or "")

    def kind(self, party: str | None) -> str:
        return self.text(party, "type")

    def region(self, party: str | None) -> str | None:
        return self.text(party, "region") or None

    def warehouses(self, party: str | None) -> set[str]:
        """Return the regions of registered warehouses."""
        return {
            part.strip() for part in re.split("[;；]", self.text(party, "warehouse_regions"))
        } - {""}

    def related(self, a: str | None, b: str | None) -> bool:
        """Same enterprise, or one non-empty group."""
        if a is None or b is None:
            return False
        group = self.text(a, "group_id")
        return a == b or (group != "" and group == self.text(b, "group_id"))

    def strangers(self, a: str | None, b: str | None) -> bool:
        """Both registered with groups that differ."""
        ga, gb = self.text(a, "group_id"), self.text(b, "group_id")
        return ga != "" and gb != "" and ga != gb

    # ------------------------------------------------------------ drugs

    def classes(self, drug: str | None) -> set[str]:
        row = self.drugs.get(drug or "", {})
        return set(str(row.get("classes") or "").split(";")) - {""}

    def capacity(self, drug: str | None) -> int | None:
        """Return the units in one pack of a drug, or None where the registry does not say."""
        return units_per_pack(str(self.drugs.get(drug or "", {}).get("pack_spec") or ""))

    def packs_in_case(self, drug: str | None) -> int | None:
        """Return the packs in one case of a drug, or None where the registry does not say."""
        return packs_in_case(str(self.drugs.get(drug or "", {}).get("pack_spec") or ""))

    # ------------------------------------------------------------ places

    def distance_km(self, a: str, b: str) -> float | None:
        """Return km between the centres of two regions, or None where one is not on the map."""
        first, second = self.coordinates(a), self.coordinates(b)
        return None if first is None or second is None else great_circle_km(first, second)

"""Shops that were reported, and territories drugs are allotted to, as arrays by vocabulary id.

Both grow with the vocabulary: ids of shops, platforms and drugs that appear later are looked up when
the registry view is refreshed. Enterprises are rows of ``enterprises``; -1 where none is named,
-2 where the one named is not registered.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.registry.licences import ALWAYS, NEVER
from trace_engine.registry.prepare import EnterpriseRows
from trace_engine.registry.regions import load_regions

NOBODY = -1
UNREGISTERED = -2

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def _texts(table: pa.Table, name: str) -> list[str | None]:
    names = table.column_names
    texts: list[str | None] = (
        table.column(name).to_pylist() if name in names else [None] * table.num_rows
    )
    return texts


def _days(table: pa.Table, name: str, missing: int) -> list[int]:
    if name not in table.column_names:
        return [missing] * table.num_rows
    days: list[int] = table.column(name).cast(pa.int32()).fill_null(missing).to_pylist()
    return days


def _holders(enterprises: EnterpriseRows, ids: Sequence[str | None]) -> list[int]:
    """Return the row of each id: -1 where there is no id, -2 where it is not registered."""
    get = enterprises.by_id.get
    return [NOBODY if text is None else get(text, UNREGISTERED) for text in ids]


class Shops:
    """Rows of ``shops`` as arrays of shape ``(m,)``, sorted by shop id, and lists by shop.

    ``holder`` row of the enterprise; ``platform`` number of the platform in this register (-1 not
    stated); ``reported_from``/``reported_to`` days. ``first`` and ``after`` (by shop id of the
    vocabulary): the rows ``first[s]`` to ``after[s]`` are those of shop s. ``platform_of`` (by platform
    id of the vocabulary): its number here, -1 where the register has no shop on it.
    """

    def __init__(self, table: pa.Table, enterprises: EnterpriseRows) -> None:
        ids = _texts(table, "shop_id")
        keep = [row for row, shop in enumerate(ids) if shop is not None]
        begins = _days(table, "reported_from", ALWAYS)
        keep.sort(key=lambda row: (str(ids[row]), begins[row]))
        platforms = _texts(table, "platform_id")
        self._platform_numbers: dict[str, int] = {}
        numbers = [
            -1
            if text is None
            else self._platform_numbers.setdefault(text, len(self._platform_numbers))
            for text in (platforms[row] for row in keep)
        ]
        holders = _holders(enterprises, _texts(table, "enterprise_id"))
        ends = _days(table, "reported_to", NEVER)
        self.platform = np.array(numbers, np.int32)
        self.holder = np.array([holders[row] for row in keep], np.int32)
        self.reported_from = np.array([begins[row] for row in keep], np.int32)
        self.reported_to = np.array([ends[row] for row in keep], np.int32)
        self._rows: dict[str, tuple[int, int]] = {}
        for place, row in enumerate(keep):
            shop = str(ids[row])
            self._rows[shop] = (self._rows.get(shop, (place, place))[0], place + 1)
        # Who has a shop on which platform: sorted (row of the enterprise, platform).
        named = (self.holder >= 0) & (self.platform >= 0)
        self.holder_platforms: Int64 = np.unique(
            self.holder[named].astype(np.int64) << 32 | self.platform[named]
        )
        self.names_holders = bool((self.holder != NOBODY).any())
        self.names_platforms = bool((self.platform >= 0).any())
        provinces = enterprises.province[self.holder[self.holder >= 0]]
        self.provinces = np.zeros(128, np.bool_)  # of enterprises with a shop; by province
        self.provinces[provinces[provinces > 0]] = True
        self.first = self.after = np.empty(0, np.int64)
        self.platform_of = np.empty(0, np.int32)

    def refresh(self, shops: list[str], platforms: list[str]) -> None:
        """Extend the arrays by id to all shops and platforms of the vocabulary."""
        if len(shops) > len(self.first):
            new = [self._rows.get(text, (0, 0)) for text in shops[len(self.first) :]]
            bounds = np.array(new, np.int64).reshape(-1, 2)
            self.after = np.append(self.after, bounds[:, 1])
            self.first = np.append(self.first, bounds[:, 0])
        if len(platforms) > len(self.platform_of):
            more = [self._platform_numbers.get(t, -1) for t in platforms[len(self.platform_of) :]]
            self.platform_of = np.append(self.platform_of, np.array(more, np.int32))


PROVINCE, CITY, COUNTY = 1, 2, 3  # grains: how much of the country the code of a region names


class Territories:
    """Rows of ``territories`` as arrays of shape ``(m,)``, sorted by drug, and lists by drug.

    ``enterprise`` row allotted to (-1 everybody); ``region`` index (-1 everywhere);
    ``valid_from``/``valid_to`` days. ``first`` and ``after`` by drug id of the vocabulary, as in
    :class:`Shops`. Rows that name no drug, neither enterprise nor region, or a region that is none
    are left out (they are among the registry's problems).
    """

    def __init__(self, table: pa.Table, enterprises: EnterpriseRows) -> None:
        regions = load_regions()
        drugs, areas = _texts(table, "drug_id"), _texts(table, "region")
        ids = _texts(table, "enterprise_id")
        holders = _holders(enterprises, ids)
        begins = _days(table, "valid_from", ALWAYS)
        ends = _days(table, "valid_to", NEVER)
        rows: list[tuple[str, int, int, int, int]] = []
        for drug, area, holder, begin, end in zip(drugs, areas, holders, begins, ends, strict=True):
            region = -1 if area is None else regions.index(area)
            if drug is None or (area is None and holder == NOBODY) or (area and region < 0):
                continue
            if len(drug) in (8, 12, 13) and drug.isascii() and drug.isdigit():
                drug = drug.zfill(14)  # a GTIN, as codes carry it
            rows.append((drug, begin, end, holder, region))
        rows.sort()
        self.valid_from = np.array([row[1] for row in rows], np.int32)
        self.valid_to = np.array([row[2] for row in rows], np.int32)
        self.enterprise = np.array([row[3] for row in rows], np.int32)
        self.region = np.array([row[4] for row in rows], np.int16)
        self._rows: dict[str, tuple[int, int]] = {}
        for place, row in enumerate(rows):
            self._rows[row[0]] = (self._rows.get(row[0], (place, place))[0], place + 1)
        self.first = self.after = np.empty(0, np.int64)

    def refresh(self, drugs: list[str]) -> None:
        """Extend the arrays by id to all drugs of the vocabulary."""
        if len(drugs) > len(self.first):
            new = [self._rows.get(text, (0, 0)) for text in drugs[len(self.first) :]]
            bounds = np.array(new, np.int64).reshape(-1, 2)
            self.after = np.append(self.after, bounds[:, 1])
            self.first = np.append(self.first, bounds[:, 0])


@lru_cache(maxsize=1)
def region_levels() -> tuple[npt.NDArray[np.int8], Int32]:
    """Return the grain of every region, and its keys at each grain: shapes ``(n,)``, ``(3, n)``.

    Two regions agree at a grain if their keys of row grain - 1 are equal: province, city key, and
    county in force (a renumbered county is its successor). A code that names a province has the
    grain PROVINCE, one that names a city (``xxyy00``) CITY, others COUNTY.
    """
    regions = load_regions()
    today = np.arange(len(regions), dtype=np.int32)
    for _ in range(20):  # chains of successors are short
        following = regions.successor[today]
        today = np.where(following >= 0, following, today).astype(np.int32)
    grain = np.array([CITY if code.endswith("00") else COUNTY for code in regions.codes], np.int8)
    grain[regions.is_province] = PROVINCE
    return grain, np.stack([regions.province.astype(np.int32), regions.city, today])

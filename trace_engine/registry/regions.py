"""Administrative divisions (GB/T 2260): codes past and present, names, points, distances.

The table is ``data/regions.csv``, built by ``scripts/build_regions.py`` (sources and licences in
NOTICE). A region is known everywhere else by its index in :attr:`Regions.codes`, an ``int16``.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG
MUNICIPALITIES = ("11", "12", "31", "50")  # Beijing, Tianjin, Shanghai, Chongqing: one city each
SPECIAL_REGIONS = ("71", "81", "82")  # Taiwan, Hong Kong, Macao: one city each

_SIX_DIGITS = re.compile(r"[0-9]{6}")

PROVINCE_ABBREVIATIONS: dict[str, int] = {
    "京": 11, "津": 12, "冀": 13, "晋": 14, "蒙": 15, "辽": 21, "吉": 22, "黑": 23, "沪": 31,
    "苏": 32, "浙": 33, "皖": 34, "闽": 35, "赣": 36, "鲁": 37, "豫": 41, "鄂": 42, "湘": 43,
    "粤": 44, "桂": 45, "琼": 46, "渝": 50, "川": 51, "贵": 52, "云": 53, "藏": 54, "陕": 61,
    "甘": 62, "青": 63, "宁": 64, "新": 65,
}  # fmt: skip
"""One-character names of provinces, as they open licence numbers, to two-digit codes."""


def city_key(code: str) -> int:
    """Return the key of the city ``code`` lies in, as the code stands.

    The first four digits; one key for a whole municipality or special region; a county run by its
    province (``xx90xx`` and the older ``xx00xx``) is a city of its own and keeps all six digits. A
    code that names only a province has the key ``xx00``, which no real city has.
    """
    province, middle, last = code[:2], code[2:4], code[4:]
    if province in MUNICIPALITIES or province in SPECIAL_REGIONS:
        return int(province) * 100
    if middle in ("90", "00") and last != "00":
        return int(code)
    return int(code[:4])


@dataclass(frozen=True)
class Regions:
    """All known codes, sorted, with parallel arrays of shape ``(len(codes),)``.

    ``valid_from``/``valid_to`` are years, 0 where the source states none (``valid_to`` 0: in
    force); ``successor`` is an index or -1; ``exact_point`` is false where the point is that of a
    relative or of the city above. Some codes, most of them long dead, have no point: NaN.
    """

    codes: list[str]
    names_zh: list[str]
    full_names_zh: list[str]
    parent: npt.NDArray[np.int16]
    successor: npt.NDArray[np.int16]
    valid_from: npt.NDArray[np.int16]
    valid_to: npt.NDArray[np.int16]
    province: npt.NDArray[np.int8]  # first two digits, 11..82
    city: npt.NDArray[np.int32]  # key of the city it lies in today, see city_key
    latitude: npt.NDArray[np.float64]  # degrees
    longitude: npt.NDArray[np.float64]
    exact_point: npt.NDArray[np.bool_]
    is_province: npt.NDArray[np.bool_]  # names only a province
    _positions: dict[str, int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.codes)

    def index(self, code: str) -> int:
        """Return the index of ``code``, or -1.

        A code that no edition of the code book had falls back to its city (``xxyy00``), then to its
        province (``xx0000``): a county created after the table was built is still placed.
        Longer statistical codes (9 or 12 digits) count by their first six digits.
        """
        found = self._positions.get(code)
        if found is not None:
            return found
        code = code.strip()
        if len(code) in (9, 12) and code.isascii() and code.isdigit():
            code = code[:6]
        if not _SIX_DIGITS.fullmatch(code):
            return -1
        for candidate in (code, code[:4] + "00", code[:2] + "0000"):
            found = self._positions.get(candidate)
            if found is not None:
                return found
        return -1

    def known(self, code: str) -> bool:
        """Return whether the table has exactly this code."""
        return code in self._positions

    def distance_km(self, first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return great-circle distances (km) between regions by index, broadcast.

        NaN where an index is -1 or a region has no point.
        """
        i, j = np.asarray(first, np.int64), np.asarray(second, np.int64)
        lat_i, lat_j = np.radians(self.latitude[i]), np.radians(self.latitude[j])
        lon_i, lon_j = np.radians(self.longitude[i]), np.radians(self.longitude[j])
        chord = (
            np.sin((lat_j - lat_i) / 2) ** 2
            + np.cos(lat_i) * np.cos(lat_j) * np.sin((lon_j - lon_i) / 2) ** 2
        )
        distance = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
        return np.where((i < 0) | (j < 0), np.nan, distance)

    @cached_property
    def province_names(self) -> dict[str, str]:
        """Chinese names of the provinces by two digits."""
        return {
            code[:2]: name
            for code, name in zip(self.codes, self.names_zh, strict=True)
            if code.endswith("0000")
        }

    def name(self, index: int) -> str:
        """Return the full Chinese name of a region; ``未知地区`` for -1."""
        return "未知地区" if index < 0 else self.full_names_zh[index]

    def code(self, index: int) -> str:
        """Return the code of a region; empty for -1."""
        return "" if index < 0 else self.codes[index]


@lru_cache(maxsize=1)
def load_regions() -> Regions:
    """Return the shipped table (read once)."""
    path = files("trace_engine.registry") / "data" / "regions.csv"
    rows = list(csv.reader(path.read_text("utf-8").splitlines()))[1:]
    columns = list(zip(*rows, strict=True))
    codes = list(columns[0])
    positions = {code: i for i, code in enumerate(codes)}
    successor = [positions.get(code, -1) for code in columns[6]]
    return Regions(
        codes=codes,
        names_zh=list(columns[1]),
        full_names_zh=list(columns[2]),
        parent=np.array([positions.get(code, -1) for code in columns[3]], np.int16),
        successor=np.array(successor, np.int16),
        valid_from=np.array([int(year or 0) for year in columns[4]], np.int16),
        valid_to=np.array([int(year or 0) for year in columns[5]], np.int16),
        province=np.array([int(code[:2]) for code in codes], np.int8),
        city=np.array([city_key(codes[_today(i, successor)]) for i in range(len(codes))], np.int32),
        latitude=np.array([float(value or "nan") for value in columns[8]]),
        longitude=np.array([float(value or "nan") for value in columns[7]]),
        exact_point=np.array([kind in ("own", "centre") for kind in columns[9]], np.bool_),
        is_province=np.array([code.endswith("0000") for code in codes], np.bool_),
        _positions=positions,
    )


def _today(index: int, successor: list[int]) -> int:
    """Follow successors to the division in force, so that a renumbered county keeps its city."""
    for _ in range(20):  # chains are short; the bound guards against a loop in the source
        if successor[index] < 0:
            break
        index = successor[index]
    return index

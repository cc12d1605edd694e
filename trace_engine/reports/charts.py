"""Geometry of the report's charts: province tiles and bars over time. Templates draw them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import ceil

from trace_engine.reports.words import PROVINCES

SIDE = 74  # of a province tile with its gap, in SVG user units
_EMPTY = ("#eef2f5", "#7b8894")
# Shades from few to many, and the ink that reads on them (contrast at least 4.5 : 1).
_SHADES = (
    ("#f6dcd8", "#5a1a14"),
    ("#e9aea6", "#4a120d"),
    ("#d2766b", "#1d0503"),
    ("#b3392f", "#ffffff"),
    ("#7d1d15", "#ffffff"),
)
SHORTEST_BY_MONTH = 62  # days; a shorter period is drawn by week
LONGEST_BY_MONTH = 5 * 366  # days; a longer period is drawn by year


@dataclass(frozen=True, slots=True)
class Tile:
    """One province."""

    x: int
    y: int
    name: str
    label: str
    title: str
    fill: str
    ink: str
    high: bool


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend."""

    colour: str
    label: str


@dataclass(frozen=True, slots=True)
class TileMap:
    """The province chart."""

    tiles: list[Tile]
    key: list[Key]
    side: int
    width: int
    height: int


def compact(value: int) -> str:
    """Return a count in at most five characters: 950, 12.3k, 4.5M."""
    if value < 10_000:
        return str(value)
    if value < 999_950:
        return f"{value / 1000:.1f}k".replace(".0k", "k")
    return f"{value / 1e6:.1f}M".replace(".0M", "M")


def steps(counts: Iterable[int]) -> list[int]:
    """Return at most five rising lower bounds of shades for ``counts`` (zeros are left out).

    Evenly spread between the smallest and the largest; in logarithm where they differ tenfold.
    """
    known = [count for count in counts if count > 0]
    if not known:
        return []
    low, high, parts = min(known), max(known), len(_SHADES)
    if high > 10 * low:
        return sorted({round(low * (high / low) ** (i / parts)) for i in range(parts)})
    return sorted({round(low + (high + 1 - low) * i / parts) for i in range(parts)})


def tile_map(counts: Mapping[str, int], high: Mapping[str, int], lang: str) -> TileMap:
    """Lay out provinces by two-digit code: ``counts`` shade them, ``high`` > 0 puts a dot."""
    bounds = steps(counts.values())
    offset = len(_SHADES) - len(bounds)
    tiles = []
    for province in PROVINCES:
        count = counts.get(province.digits, 0)
        reached = sum(count >= bound for bound in bounds)
        fill, ink = _SHADES[offset + reached - 1] if reached else _EMPTY
        name = province.en if lang == "en" else province.zh
        tiles.append(
            Tile(
                x=province.column * SIDE,
                y=province.row * (SIDE - 14),
                name=name if lang == "zh" else _short(name),
                label=compact(count) if count else "·",
                title=f"{name}: {count:,}",
                fill=fill,
                ink=ink,
                high=high.get(province.digits, 0) > 0,
            )
        )
    key = []
    for i, bound in enumerate(bounds):
        last = bounds[i + 1] - 1 if i + 1 < len(bounds) else None
        label = f"≥ {bound:,}" if last is None else f"{bound:,}–{last:,}"
        key.append(Key(_SHADES[offset + i][0], f"{bound:,}" if last == bound else label))
    columns = 1 + max(p.column for p in PROVINCES)
    rows = 1 + max(p.row for p in PROVINCES)
    return TileMap(tiles, key, SIDE - 5, columns * SIDE, rows * (SIDE - 14))


def _short(name: str) -> str:
    return {"Inner Mongolia": "In. Mong.", "Heilongjiang": "Heilongj."}.get(name, name)


@dataclass(frozen=True, slots=True)
class Bar:
    """One period: suspected violations at the bottom, data quality on top."""

    x: float
    width: float
    y_bad: float
    h_bad: float
    y_data: float
    h_data: float
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the grid."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Trend:
    """Findings over time."""

    bars: list[Bar] = field(default_factory=list)
    grid: list[Line] = field(default_factory=list)
    unit: str = ""
    width: int = 1080
    height: int = 230


def _start_of(day: date, unit: str) -> date:
    """Return the first day of the week, month or year of ``day``."""
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day.replace(month=1, day=1)


def _unit(first: date, last: date) -> str:
    days = (last - first).days
    if days < SHORTEST_BY_MONTH:
        return "week"
    return "month" if days < LONGEST_BY_MONTH else "year"


def _periods(first: date, last: date, unit: str) -> list[date]:
    """Return the first days of all periods from ``first`` to ``last``."""
    step = {"week": 7, "month": 32, "year": 367}[unit]
    starts = [_start_of(first, unit)]
    while (following := _start_of(starts[-1] + timedelta(days=step), unit)) <= last:
        starts.append(following)
    return starts


def nice_ceiling(value: int) -> int:
    """Return the smallest of 4, 8, 12, 20 × 10^k that is not below ``value``.

    Its quarters are whole numbers, fit for the lines of a grid.
    """
    power = 1
    while True:
        for factor in (4, 8, 12, 20):
            if factor * power >= value:
                return factor * power
        power *= 10


_LABELS = {"week": "%m-%d", "month": "%Y-%m", "year": "%Y"}
_UNITS = {
    "week": ("按周（标注周一）", "by week (Mondays)"),
    "month": ("按月", "by month"),
    "year": ("按年", "by year"),
}


def trend(days: Mapping[date, tuple[int, int]], lang: str) -> Trend:
    """Lay out bars by month; by week where the period is short, by year where it is very long.

    ``days`` maps a day to its numbers of suspected violations and of data-quality findings.
    """
    if not days:
        return Trend()
    unit = _unit(min(days), max(days))
    starts = _periods(min(days), max(days), unit)
    sums = {start: [0, 0] for start in starts}
    for day, (bad, data) in days.items():
        period = sums[_start_of(day, unit)]
        period[0] += bad
        period[1] += data
    chart = Trend()
    top, base, left = 10.0, chart.height - 26.0, 52.0
    scale = nice_ceiling(max(bad + data for bad, data in sums.values()))
    grid = [Line(base - (base - top) * i / 4, compact(scale * i // 4)) for i in range(5)]
    pitch = (chart.width - left) / len(starts)
    width = min(pitch * 0.7, 64)
    every = ceil(len(starts) / 16)
    words = ("suspected", "data quality") if lang == "en" else ("疑似违规", "数据质量")
    bars = []
    for i, (start, (bad, data)) in enumerate(sums.items()):
        h_bad, h_data = ((base - top) * n / scale for n in (bad, data))
        label = start.strftime(_LABELS[unit])
        bars.append(
            Bar(
                x=round(left + pitch * i + (pitch - width) / 2, 1),
                width=round(width, 1),
                y_bad=round(base - h_bad, 1),
                h_bad=round(h_bad, 1),
                y_data=round(base - h_bad - h_data, 1),
                h_data=round(h_data, 1),
                label=label if i % every == 0 else "",
                title=f"{label}: {words[0]} {bad:,}, {words[1]} {data:,}",
            )
        )
    return Trend(bars, grid, _UNITS[unit][lang == "en"])


def percentages(values: Sequence[int]) -> list[float]:
    """Return ``values`` as percentages of the largest; 0 where all are 0."""
    largest = max(values, default=0)
    return [round(100 * v / largest, 2) if largest else 0.0 for v in values]

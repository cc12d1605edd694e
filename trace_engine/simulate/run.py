"""simulate(): a market with planted truth, written as event files, registry and truth."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trace_engine.simulate import noise
from trace_engine.simulate.cases import with_cases
from trace_engine.simulate.desk import Desk
from trace_engine.simulate.flows import draw_lots, honest_block
from trace_engine.simulate.market import Market
from trace_engine.simulate.planting import plant_schemes, plant_twins
from trace_engine.simulate.registry_files import party_ids, write_registry
from trace_engine.simulate.rows import Rows
from trace_engine.simulate.schemes.dumping import ROWS, MarketPrices, plant_dumping
from trace_engine.simulate.truth import Truth
from trace_engine.simulate.truth_files import NO_SELLERS, write_truth
from trace_engine.simulate.write import FORMATS, Spool, Texts, write_events

EVENTS_PER_CODE = 5.1  # inside the window, measured; only sizes the market
BLOCK_CODES = 60_000
BUCKET_EVENTS = 1_500_000
MINIMUM_EVENTS = 5_000
MINIMUM_DAYS = 150


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written: counts of rows and of everything planted."""

    out: Path
    events: int
    codes: int
    enterprises: int
    sellers: int
    guilty_sellers: int
    scheme_cases: dict[str, int]  # by detector
    cases_left_out: dict[str, int]  # by detector: too small a market for it to judge
    benign_cases: dict[str, int]  # by kind
    touched_codes: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        values = asdict(self)
        values["out"] = str(self.out)
        return values


def simulate(
    events: int,
    seed: int,
    out: Path,
    *,
    start: str = "2026-01-01",
    days: int = 180,
    format: str = "parquet",  # noqa: A002 - the contract's name
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write a market of about ``events`` rows (within 1 %) into ``out``; same seed, same bytes.

    ``start`` is the first day (YYYY-MM-DD), ``days`` the length of the window. ``progress`` is
    called with the number of further rows written. Raises ValueError for sizes that cannot hold
    every scheme, for an unknown format and where ``out/events`` already holds files.
    """
    began = time.perf_counter()
    if events < MINIMUM_EVENTS:
        raise ValueError(f"events: found {events}, expected at least {MINIMUM_EVENTS}")
    if days < MINIMUM_DAYS:
        raise ValueError(f"days: found {days}, expected at least {MINIMUM_DAYS}")
    if format not in FORMATS:
        raise ValueError(f"format: found {format!r}, expected one of {', '.join(FORMATS)}")
    first_day = (dt.date.fromisoformat(start) - dt.date(1970, 1, 1)).days
    out = Path(out)
    folder = out / "events"
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} already holds files; choose another folder or empty it")

    root = np.random.SeedSequence(seed)
    population, dumped, papers, honest = (np.random.default_rng(s) for s in root.spawn(4))
    market = Market(population, round(events / EVENTS_PER_CODE), first_day, days)
    truth = Truth()
    spool = Spool(out / ".spool", first_day, days, max(1, round(events / BUCKET_EVENTS)))
    codes = 0

    desk = Desk(market, dumped)
    planted = plant_schemes(desk, truth, events, seed)
    dumping, left_out = planted.dumping, planted.left_out
    plant_twins(desk, truth, events, round(events / EVENTS_PER_CODE), seed)
    spool.add(_inside(market, desk.rows()))
    codes += len(truth.touched) + sum(len(b.codes) for b in truth.benign)

    prices = MarketPrices(market)

    def trade(until: int) -> int:
        """Add honest lives until the spool holds that many rows; return the number of packs."""
        packs = 0
        while spool.rows < until:
            missing = until - spool.rows
            wanted = min(BLOCK_CODES, int(missing / EVENTS_PER_CODE * 1.05) + 40)
            rows, more = _honest(market, honest, wanted, truth, prices, missing)
            spool.add(rows)
            packs += more
        return packs

    codes += trade(events - ROWS * sum(cases for _, cases in dumping))
    before, desk = len(truth.touched), Desk(market, dumped)
    undumped = plant_dumping(desk, truth, prices, dumping)
    if undumped:
        left_out["abnormal_low_price"] = left_out.get("abnormal_low_price", 0) + undumped
    if len(truth.touched) > before:
        spool.add(_inside(market, desk.rows()))
    codes += len(truth.touched) - before
    codes += trade(events)

    ids = party_ids(market)
    texts = Texts(market, ids)
    written = write_events(spool, texts, folder, format, progress or (lambda _rows: None))
    write_registry(market, ids, out / "registry", papers, truth.guilty)
    write_truth(market, truth, ids, out / "truth")
    return Summary(
        out=out,
        events=written,
        codes=codes,
        enterprises=market.count,
        sellers=len(market.sellers),
        guilty_sellers=sum(int(market.type[p]) not in NO_SELLERS for p in truth.guilty),
        scheme_cases=truth.cases_by_detector(),
        cases_left_out=dict(sorted(left_out.items())),
        benign_cases=truth.benign_by_kind(),
        touched_codes=len(truth.touched),
        seconds=round(time.perf_counter() - began, 3),
    )


def _inside(market: Market, rows: Rows) -> Rows:
    """Return the rows inside the window."""
    return rows.take((rows["time"] >= market.begin) & (rows["time"] < market.end))


def _honest(
    market: Market,
    rng: np.random.Generator,
    packs: int,
    truth: Truth,
    prices: MarketPrices,
    limit: int,
) -> tuple[Rows, int]:
    """Return at most about ``limit`` rows of honest packs with habits and mistakes; and packs."""
    block = honest_block(market, rng, draw_lots(market, rng, packs))
    pack_count = len(block.codes)
    keep = (block.rows["time"] >= market.begin) & (block.rows["time"] < market.end)
    inside = np.bincount(block.pack[keep], minlength=pack_count)
    total = np.cumsum(inside)
    if total[-1] > limit:  # whole packs only, so that no life is cut short
        pack_count = int(np.searchsorted(total, limit)) + 1
        keep &= block.pack < pack_count
    block.rows, block.pack, block.step = block.rows.take(keep), block.pack[keep], block.step[keep]
    noise.due(block)
    rows, step, pack = noise.mistakes(market, rng, block, truth)
    noise.habits(market, rows, step)
    rows, step, _ = with_cases(market, rng, (rows, step, pack), block.lot.astype(np.int64))
    prices.add(rows, step)
    rows = Rows.concat([rows, noise.retries(rows)])
    return _inside(market, rows), int((inside[:pack_count] > 0).sum())

"""How long a trace of one batch takes, once a state is loaded; and what the state and index hold.

Usage: python benchmarks/trace_latency.py [--batches 20] [--packs 10000] [--cases]

Each batch goes from its maker over five distributors to a hundred shops, most of it to persons; some
packs come back, some are lost, some are still on their way: seven to nine events a pack. The state
is saved and loaded again, then batches are traced, each at least once, whole and as of days of which
many packs have later events. Printed are wall time (others on the machine count) and processor time.
With ``--cases`` packs reach the distributor in cases of a hundred, and only the cases are scanned.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from columns import digits, strings

from trace_engine.engine import Engine
from trace_engine.tracing import Tracer

DAY = 86_400_000_000
START = np.datetime64("2026-01-01", "us").astype(np.int64)
MAKER, DISTRIBUTORS, SHOPS = 0, 5, 100
PACKS_A_CASE = 100
LIMIT_MS = 50.0
AS_OF_DAYS = (3, 13, 20, 30.3, 31)  # 30.3: not the end of a day

# Steps of a pack's life: type, whether the giver records it, earliest day.
LIFE = (
    ("commissioning", 0),
    ("production_shipment", 5),
    ("purchase_receipt", 7),
    ("sale_shipment", 12),
    ("purchase_receipt", 14),
    ("retail_sale", 30),
)


def batch_events(
    number: int, packs: int, rng: np.random.Generator, cases: bool = False
) -> pa.Table:
    """Return the events of batch ``number`` as a canonical table.

    In ``cases`` the packs go to the distributor in cases, whose moves alone are recorded.
    """
    serial = np.arange(packs, dtype=np.uint64) + np.uint64(number * packs)
    codes = strings("8", digits(np.uint64(100_000) * np.uint64(10**13) + serial, 19))
    distributor = 1 + rng.integers(0, DISTRIBUTORS, packs)
    case = np.arange(packs) // PACKS_A_CASE
    first = case * PACKS_A_CASE
    if cases:
        distributor = distributor[first]
    shop = 1 + DISTRIBUTORS + rng.integers(0, SHOPS, packs)
    maker = np.full(packs, MAKER)
    ends = (
        (maker, maker, maker), (maker, maker, distributor), (distributor, maker, distributor),
        (distributor, distributor, shop), (shop, distributor, shop), (shop, shop, None),
    )  # fmt: skip
    # Some packs stop on their way: not shipped on, not received, not sold.
    reached = rng.choice(len(LIFE) + 1, packs, p=[0, 0.01, 0.02, 0.02, 0.02, 0.08, 0.85])
    parts = []
    of_cases = np.uint64(1_000_009 * 10**12) + serial // np.uint64(PACKS_A_CASE)
    case_codes = strings("8", digits(of_cases, 19))
    for step, ((kind, day), (actor, giver, receiver)) in enumerate(zip(LIFE, ends, strict=True)):
        alive = np.flatnonzero(reached > step)
        times = START + DAY * day + rng.integers(0, 2 * DAY, len(alive))
        table = _rows(codes, alive, times, kind, actor, giver, receiver, number)
        if cases and step == 0:
            parent = case_codes.take(pa.array(alive))
            table = table.append_column("parent_code", parent)
        elif cases and step < 3:  # the case moves, and what is in it with it
            whole = np.unique(first)
            times = START + DAY * day + rng.integers(0, 2 * DAY, len(whole))
            table = _rows(case_codes, whole, times, kind, actor, giver, receiver, number)
        parts.append(table)
    back = np.flatnonzero((reached == 5) & (rng.random(packs) < 0.2))
    times = START + DAY * 40 + rng.integers(0, DAY, len(back))
    for kind, actor, later in (("return_shipment", shop, 0), ("return_receipt", distributor, DAY)):
        parts.append(_rows(codes, back, times + later, kind, actor, shop, distributor, number))
    return pa.concat_tables(parts, promote_options="default")


def _rows(
    codes: pa.Array,
    rows: np.ndarray,
    times: np.ndarray,
    kind: str,
    actor: np.ndarray,
    giver: np.ndarray,
    receiver: np.ndarray | None,
    number: int,
) -> pa.Table:
    def party(numbers: np.ndarray) -> pa.Array:
        return strings("E", digits(numbers[rows].astype(np.uint64), 4))

    empty = pa.nulls(len(rows), pa.string())
    bills = actor[rows] * 1000 + times // DAY % 1000
    return pa.table(
        {
            "event_time": pa.array(times).cast(pa.timestamp("us")),
            "event_type": pa.array([kind] * len(rows)),
            "code": codes.take(pa.array(rows)),
            "actor_id": party(actor),
            "from_id": party(giver),
            "to_id": empty if receiver is None else party(receiver),
            "batch_no": pa.array([f"B{number:04d}"] * len(rows)),
            "bill_code": strings("N", digits(bills.astype(np.uint64), 8)),
        }
    )


class Follower(Engine):
    """An engine that follows packs and judges nothing: what trace needs."""

    def _verdicts(self, data: object) -> dict[str, object]:  # type: ignore[override]
        return {}


def measured(questions: Sequence[Callable[[], object]]) -> str:
    """Return what questions took each: median and worst."""
    wall, busy = [], []
    for ask in questions:
        began, worked = time.perf_counter(), time.process_time()
        ask()
        wall.append((time.perf_counter() - began) * 1e3)
        busy.append((time.process_time() - worked) * 1e3)
    return (
        f"{np.median(busy):.1f} ms of processor time (worst {max(busy):.1f}), "
        f"{np.median(wall):.1f} ms wall (worst {max(wall):.1f})"
    )


def main() -> None:
    """Build, save, load, trace, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--packs", type=int, default=10_000)
    parser.add_argument("--cases", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    engine = Follower(lateness_days=None)
    for number in range(arguments.batches):
        engine.process(batch_events(number, arguments.packs, rng, arguments.cases))
    engine.finish()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        began = time.perf_counter()
        engine.save(state)
        saved = time.perf_counter() - began
        size = sum(path.stat().st_size for path in state.iterdir())
        began = time.perf_counter()
        loaded = Engine.load(state)
        took = time.perf_counter() - began
        print(f"events {len(loaded.log):,}, packs {len(loaded.shards):,}")
        print(f"state {size / 1e6:,.1f} MB, saved in {saved:.2f} s, loaded in {took:.2f} s")
        edges = loaded.multigraph
        print(f"supply graph {len(edges):,} edges, {edges.nbytes / 1e6:,.1f} MB")
        tracer = Tracer(loaded)
        tracer.batch("B0000")  # compiles
        tracer.batch("B0000", end=int(START + 20 * DAY))
        tracer = Tracer(loaded)
        began = time.perf_counter()
        held = tracer.index.nbytes
        took = time.perf_counter() - began
        print(f"index {held / 1e6:,.1f} MB, built in {took:.2f} s")
        asked = []

        def trace(number: int, days: float | None, since: float | None = None) -> None:
            begin, end = (None if d is None else int(START + d * DAY) - 1 for d in (since, days))
            found = tracer.batch(f"B{number:04d}", begin=begin, end=end)
            asked.append(sum(found.places.values()) == found.codes == arguments.packs)

        every = range(arguments.batches)
        whole = measured([partial(trace, n, None) for n in every])
        dated = [measured([partial(trace, n, day) for n in every]) for day in AS_OF_DAYS]
        both = measured([partial(trace, n, 31, 10) for n in every])
        tracer.enterprise("E0002")  # compiles
        enterprise = measured([partial(tracer.enterprise, "E0003")])
    print(f"batch of {arguments.packs:,} packs, aim {LIMIT_MS:.0f} ms:")
    print(f"  whole: {whole}")
    for day, answer in zip(AS_OF_DAYS, dated, strict=True):
        print(f"  as of day {day:g}: {answer}")
    print(f"  as of day 31, movements since day 10: {both}")
    print(f"an enterprise: {enterprise}")
    if not all(asked):
        raise SystemExit("places do not add up to the packs")


if __name__ == "__main__":
    main()

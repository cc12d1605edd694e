from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.conftest import SALE, SHIP, World, numbers
from trace_engine.detectors.price_inversion import PriceInversion, PriceInversionParameters
from trace_engine.events.batch import GIFT, SPLIT_SALE
from trace_engine.events.kinds import EventKind

P = PriceInversionParameters()


def buy(time, price, target="X", **more):
    return {"kind": SHIP, "source": "W", "target": target, "time": time, "price": price, **more}


def sell(time, price, **more):
    return {"kind": SALE, "source": "X", "time": time, "price": price, **more}


def fired(world: World, events):
    data = world.slice(events)
    return numbers(data, PriceInversion().judge(data, P).hits)


def test_code_cost_decides_without_any_purchase_on_record(world):
    events = [sell("2025-03-01 10:00", 969, cost=1000), sell("2025-03-01 11:00", 971, cost=1000)]
    data = world.slice(events)
    verdict = PriceInversion().judge(data, P)
    assert verdict.judged == 2
    assert verdict.hits.seq.tolist() == [0]
    assert verdict.hits.observed[0] == 9.69
    assert verdict.hits.threshold[0] == pytest.approx(9.70)
    assert verdict.hits.amount[0] == 31
    assert verdict.hits.severity[0] == pytest.approx(0.331)
    assert verdict.hits.extra["cost"][0] == 10.0
    assert verdict.hits.extra["cost_basis_en"][0] == "what it paid for this very code"


def test_batch_cost_goes_before_drug_cost(world):
    events = [
        buy("2025-03-01 09:00", 1000, batch="A"),
        buy("2025-03-01 09:00", 2000, batch="B"),
        sell("2025-03-02 09:00", 980, batch="A"),  # A cost 10.00: fine
        sell("2025-03-02 09:00", 980, batch="C"),  # unknown batch: drug's mean is 15.00
        sell("2025-03-02 09:00", 980),
        sell("2025-03-02 09:00", 1900, batch="B"),
    ]
    assert fired(world, events) == [3, 4, 5]


def test_equal_times_count_the_purchase_first_and_order_does_not_matter(world):
    events = [sell("2025-03-01 09:00", 900), buy("2025-03-01 09:00", 1000)]
    assert fired(world, events) == [0]
    assert fired(World(), events[::-1]) == [1]


def test_a_purchase_after_the_sale_says_nothing_of_it(world):
    assert fired(world, [sell("2025-03-01 08:59", 900), buy("2025-03-01 09:00", 1000)]) == []


def test_date_only_purchase_may_have_come_after_a_timed_sale(world):
    events = [
        buy("2025-02-28 09:00", 900),
        buy("2025-03-01", 1100),  # day's mean 10.00, or still 9.00 at the time of the sale
        sell("2025-03-01 10:00", 950),
        sell("2025-03-01 10:00", 860),
    ]
    assert fired(world, events) == [3]


def test_date_only_sale_fires_only_if_below_cost_all_day(world):
    events = [
        buy("2025-02-28 09:00", 900),
        buy("2025-03-01 09:00", 1100),
        sell("2025-03-01", 950),
        sell("2025-03-01", 860),
    ]
    assert fired(world, events) == [3]
    # Without any stock before the day its end decides.
    assert fired(World(), [buy("2025-03-01", 1000), sell("2025-03-01", 950)]) == [1]


def test_sold_packs_leave_the_stock_when_the_day_closes(world):
    events = [
        buy("2025-03-01 09:00", 1000, quantity=10),
        sell("2025-03-01 10:00", 1000, quantity=9),
        buy("2025-03-02 09:00", 2000, quantity=9),  # 1 pack at 10.00 and 9 at 20.00: mean 19.00
        sell("2025-03-02 10:00", 1850),
        sell("2025-03-02 10:00", 1840),
    ]
    assert fired(world, events) == [4]


def test_last_cost_is_remembered_when_the_stock_is_empty(world):
    events = [
        buy("2025-03-01 09:00", 1000),
        sell("2025-03-01 10:00", 1000, quantity=5),
        sell("2025-03-05 10:00", 960),
        buy("2025-03-06 10:00", 500),  # a fresh stock at 5.00
        sell("2025-03-06 11:00", 490),
    ]
    assert fired(world, events) == [2]


def test_benign_twins_are_skipped_and_counted(world):
    events = [
        sell("2025-03-01 10:00", 100, cost=1000, expiry="2025-08-28"),  # 180 days: clearance
        sell("2025-03-01 10:00", 100, cost=1000, expiry="2025-08-29"),
        sell("2025-03-01 10:00", 100, cost=1000, flags=GIFT),
        sell("2025-03-01 10:00", 0, cost=1000),
        sell("2025-03-01 10:00", 100, cost=1000, flags=SPLIT_SALE),
        sell("2025-03-01 10:00", 100, cost=1000, signal=0),  # an upload repeated
        buy("2025-03-01 10:00", 100, cost=1000) | {"kind": EventKind.DIRECT_SHIPMENT},
        buy("2025-03-01 10:00", 100, cost=1000) | {"kind": EventKind.GIFT_SHIPMENT},
        buy("2025-03-01 10:00", 100, cost=1000, target="W"),
    ]
    verdict = PriceInversion().judge(world.slice(events), P)
    assert verdict.hits.seq.tolist() == [1]
    assert verdict.judged == 1
    assert verdict.skipped == {"near_expiry": 1, "gift": 2, "no_price": 1, "split_sale": 1}


def test_state_carries_over_days_and_equals_one_call(world):
    rng = np.random.default_rng(5)
    events = []
    for d in range(1, 29):
        for _ in range(40):
            time = f"2025-03-{d:02d}" + (
                "" if rng.random() < 0.3 else f" {rng.integers(24):02d}:15"
            )
            more = {"quantity": int(rng.integers(1, 5)), "drug": f"800000{rng.integers(3)}"}
            more["batch"] = [None, "A", "B"][rng.integers(3)]
            price = int(rng.integers(500, 1500))
            if rng.random() < 0.5:
                events.append(buy(time, price, target=f"X{rng.integers(3)}", **more))
            else:
                events.append(sell(time, price, **more) | {"source": f"X{rng.integers(3)}"})
    detector = PriceInversion()
    data = world.slice(events)
    rows, _ = detector.select(data, P)
    whole = detector.advance(rows, detector.new_state(), P, data.last_day)
    assert len(whole) > 50
    state, parts = detector.new_state(), []
    order = np.lexsort((rng.random(len(rows["time"])), rows["time"]))
    shuffled = {name: column[order] for name, column in rows.items()}
    days = shuffled["time"] // 86_400_000_000
    for d in np.unique(days):
        chosen = {name: column[days == d] for name, column in shuffled.items()}
        part = detector.advance(chosen, state, P, int(d))
        parts += [] if part is None else zip(part.seq, part.threshold, part.amount, strict=True)
    assert sorted(parts) == sorted(zip(whole.seq, whole.threshold, whole.amount, strict=True))

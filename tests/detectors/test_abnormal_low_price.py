from __future__ import annotations

import math

import numpy as np
import pytest

from tests.detectors.conftest import SALE, SHIP, numbers
from trace_engine.detectors.abnormal_low_price import (
    AbnormalLowPrice,
    AbnormalLowPriceParameters,
)
from trace_engine.events.batch import GIFT, ONLINE, SPLIT_SALE
from trace_engine.events.kinds import EventKind

P = AbnormalLowPriceParameters()


def sale(price, day=20, **more):
    return {"kind": SALE, "source": "X", "time": f"2025-03-{day:02d} 10:00", "price": price, **more}


def history(n=30, day=19, **more):
    """Prices around 10.00 yuan within ±2 %."""
    return [sale(980 + 40 * i // (n - 1), day, **more) for i in range(n)]


def judge(world, events, parameters=P):
    data = world.slice(events)
    verdict = AbnormalLowPrice().judge(data, parameters)
    return data, verdict


def test_fires_below_the_ratio_of_the_median(world):
    events = [*history(), sale(690), sale(710)]
    data, verdict = judge(world, events)
    assert numbers(data, verdict.hits) == [30]
    hits = verdict.hits
    assert hits.observed[0] == 6.90
    assert hits.threshold[0] == pytest.approx(7.0, rel=0.01)
    assert hits.severity[0] == pytest.approx(0.4 + 0.5 * 0.31, abs=0.01)
    assert hits.extra["z"][0] < -20
    assert hits.extra["channel_en"][0] == "retail"
    assert hits.amount[0] == pytest.approx(310, abs=5)


def test_needs_enough_sales_on_earlier_days(world):
    assert judge(world, [*history(29), sale(500)])[1].hits is None
    # Those of the day itself never count.
    assert judge(world, [*history(60, day=20), sale(500)])[1].hits is None


def test_reference_days_end_where_the_window_ends(world):
    parameters = AbnormalLowPriceParameters(reference_days=5)
    data, verdict = judge(world, [*history(day=15), sale(500)], parameters)
    assert numbers(data, verdict.hits) == [30]
    assert judge(world, [*history(day=14), sale(500)], parameters)[1].hits is None


def test_a_wide_market_needs_more(world):
    # Prices spread evenly from 4.00 to 16.00: the median is 8.00, but 3.00 is no outlier.
    events = [sale(int(400 * 4 ** (i / 39)), 19) for i in range(40)]
    assert judge(world, [*events, sale(300)])[1].hits is None


def test_channels_and_drugs_are_apart(world):
    world.enterprises = {"H": {"type": "public_hospital"}}
    events = [
        *history(),
        sale(600, flags=ONLINE),
        sale(600, drug="8000002"),
        sale(600, source="H"),
        sale(600) | {"kind": EventKind.DISPENSING},
        sale(600) | {"kind": SHIP, "target": "Y"},
        sale(600),
    ]
    data, verdict = judge(world, events)
    assert numbers(data, verdict.hits) == [35]


def test_what_is_not_judged(world):
    events = [
        *history(),
        sale(600, flags=GIFT),
        sale(600) | {"kind": EventKind.GIFT_SHIPMENT, "target": "Y"},
        sale(0),
        sale(600, flags=SPLIT_SALE),
        sale(600, expiry="2025-09-16"),
        sale(600, expiry="2025-09-17"),
    ]
    data, verdict = judge(world, events)
    assert numbers(data, verdict.hits) == [35]
    assert verdict.judged == 31
    assert verdict.skipped == {"gift": 2, "no_price": 1, "split_sale": 1, "near_expiry": 1}


def test_high_value_drugs_weigh_more(world):
    world.drugs = {"8000001": {"classes": "high_value"}}
    _, verdict = judge(world, [*history(), sale(690)])
    assert verdict.hits.severity[0] == pytest.approx(0.6 + 0.5 * 0.31, abs=0.01)


def plain(prices_by_day, day, price, parameters):
    """The definition, told slowly."""
    values = [
        math.floor(200 * math.log(p))
        for d, p in prices_by_day
        if day - parameters.reference_days <= d < day
    ]
    if len(values) < parameters.minimum_reference_sales:
        return False
    rank = (len(values) + 1) // 2
    median = sorted(values)[rank - 1]
    r = 1
    while sum(abs(v - median) <= r for v in values) < rank:
        r += 1
    centre = (median + 0.5) / 200
    z = 0.6745 * (math.log(price) - centre) / (r / 200)
    return price <= parameters.ratio * math.exp(centre) and z <= parameters.robust_z


def test_random_histories_agree_with_the_definition_and_with_any_split(world):
    rng = np.random.default_rng(3)
    parameters = AbnormalLowPriceParameters(
        minimum_reference_sales=5, reference_days=4, robust_z=-1.5, ratio=0.8
    )
    events = []
    for d in range(1, 29):
        for _ in range(int(rng.integers(0, 12))):
            level = 1000 if rng.random() < 0.8 else 10 ** rng.uniform(0, 6)
            price = max(1, int(level * np.exp(rng.normal(0, 0.15))))
            events.append(sale(price, d, drug=f"800000{rng.integers(2)}"))
    data = world.slice(events)
    detector = AbnormalLowPrice()
    rows, _ = detector.select(data, parameters)
    days = rows["time"] // 86_400_000_000
    expected = []
    for i in range(len(days)):
        same = rows["drug"] == rows["drug"][i]
        seen = list(zip(days[same].tolist(), rows["price"][same].tolist(), strict=True))
        if plain(seen, int(days[i]), int(rows["price"][i]), parameters):
            expected.append(int(rows["seq"][i]))
    assert len(expected) > 10
    state, found = detector.new_state(), []
    for d in np.unique(days):
        part = detector.advance(
            {name: column[days == d] for name, column in rows.items()}, state, parameters, int(d)
        )
        found += [] if part is None else part.seq.tolist()
    assert found == expected
    whole = detector.advance(rows, detector.new_state(), parameters, data.last_day)
    assert whole.seq.tolist() == expected

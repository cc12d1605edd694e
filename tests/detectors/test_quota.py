from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.conftest import SALE, World, numbers
from trace_engine.detectors.quota_per_sale import QuotaPerSale, QuotaPerSaleParameters
from trace_engine.detectors.quota_rolling import QuotaRolling
from trace_engine.events.batch import PRESCRIPTION, SPLIT_SALE
from trace_engine.events.kinds import EventKind

P = QuotaPerSaleParameters()
R = QuotaRolling.parameters()
EPHEDRINE = {
    "8000001": {"classes": "ephedrine_compound"},
    "8000002": {"classes": "ephedrine_compound"},
    "8000009": {"generic_name": "布洛芬片", "classes": "otc_a"},
}


@pytest.fixture
def world() -> World:
    made = World()
    made.drugs = EPHEDRINE
    return made


def sale(time="2025-03-01 10:00", **more):
    return {"kind": SALE, "source": "X", "time": time, **more}


def back(time, code):
    return {"kind": EventKind.CONSUMER_RETURN, "target": "X", "time": time, "code": code}


def void(time, number):
    return {"kind": EventKind.VOID, "actor": "X", "time": time, "voids": 7000 + number}


def per_sale(world, events):
    data = world.slice(events)
    return data, QuotaPerSale().judge(data, P)


def rolling(world, events):
    data = world.slice(events)
    return data, QuotaRolling().judge(data, R)


# ---- one sale


def test_two_packs_are_allowed_three_are_not(world):
    assert per_sale(world, [sale(order=5), sale(order=5)])[1].hits is None
    data, verdict = per_sale(world, [sale(order=5)] * 3)
    assert numbers(data, verdict.hits)[-3:] == [2, 3, 4]
    hits = verdict.hits
    assert set(hits.observed) == {3.0}
    assert set(hits.threshold) == {2.0}
    assert set(hits.group) == {5}
    assert hits.severity[0] == pytest.approx(0.55)
    assert hits.extra["class_zh"][0] == "含麻黄碱类复方制剂"


def test_a_quantity_counts_and_a_split_pack_counts_once(world):
    data, verdict = per_sale(world, [sale(quantity=3), sale(quantity=12, flags=SPLIT_SALE)])
    assert numbers(data, verdict.hits) == [0]
    assert verdict.judged == 2


def test_it_fires_again_only_when_the_sale_grows(world):
    events = [
        sale("2025-03-01 10:00", order=5, quantity=3),
        sale("2025-03-01 10:05", order=5),
        sale("2025-03-01 11:00", order=6),
    ]
    data, verdict = per_sale(world, events)
    assert numbers(data, verdict.hits) == [0, 1]
    assert verdict.hits.observed.tolist() == [3.0, 4.0]


def test_bill_and_window_stand_in_for_the_order(world):
    events = [
        *[sale(bill=9, buyer=i) for i in range(1, 4)],
        *[sale("2025-03-01 12:00", buyer=50), sale("2025-03-01 12:10", buyer=50, quantity=2)],
        # Eleven minutes later a new sale begins.
        *[sale("2025-03-01 13:00", buyer=60), sale("2025-03-01 13:11", buyer=60, quantity=2)],
        *[sale("2025-03-01 14:00") for _ in range(3)],  # nothing says that they belong together
        *[sale("2025-03-02", buyer=70) for _ in range(3)],  # a date says nothing of ten minutes
        *[sale("2025-03-03", order=80) for _ in range(3)],  # an order does
        *[sale("2025-03-04 09:00", order=90, source=f"X{i}") for i in range(3)],
    ]
    data, verdict = per_sale(world, events)
    assert numbers(data, verdict.hits) == [0, 1, 2, 3, 4, 13, 14, 15]


def test_an_order_may_take_days(world):
    events = [sale("2025-03-01 10:00", order=5, quantity=2), sale("2025-03-09 10:00", order=5)]
    data, verdict = per_sale(world, events)
    assert numbers(data, verdict.hits) == [1]
    assert verdict.hits.related[0].tolist()[:2] == [0, -1]
    late = [sale("2025-03-01 10:00", order=6, quantity=2), sale("2025-04-02 10:00", order=6)]
    assert per_sale(world, late)[1].hits is None


def test_benign_twins_of_one_sale(world):
    events = [
        *[sale(order=1, flags=PRESCRIPTION) for _ in range(3)],
        *[sale(order=2, drug="8000009") for _ in range(3)],
        *[sale(order=3, drug="8999999") for _ in range(3)],
        *[sale(order=4, signal=0) for _ in range(3)],
    ]
    _, verdict = per_sale(world, events)
    assert verdict.hits is None
    assert verdict.judged == 0
    assert verdict.skipped == {"prescription": 3, "unknown_drug": 3}


def test_returns_and_voids_are_netted(world):
    events = [
        *[sale("2025-03-01 10:00", order=5, code=100 + i) for i in range(2)],
        back("2025-03-01 10:01", 100),
        sale("2025-03-01 10:02", order=5, code=102),
        void("2025-03-01 10:03", 1),
        sale("2025-03-01 10:04", order=5, code=103),  # two packs stand
        sale("2025-03-01 10:05", order=5, code=104),
    ]
    data, verdict = per_sale(world, events)
    assert numbers(data, verdict.hits) == [3, 5, 6]
    assert set(verdict.hits.observed) == {3.0}


def test_a_voided_return_brings_the_pack_back(world):
    events = [
        *[sale("2025-03-01 10:00", order=5, code=100 + i) for i in range(2)],
        back("2025-03-01 10:01", 100),
        void("2025-03-01 10:02", 2),
        sale("2025-03-01 10:03", order=5, code=102),
    ]
    data, verdict = per_sale(world, events)
    assert numbers(data, verdict.hits) == [0, 1, 4]


def test_a_dated_return_works_from_the_beginning_of_its_day(world):
    events = [sale("2025-03-01 10:00", order=5, code=100 + i) for i in range(3)]
    assert per_sale(world, [*events, back("2025-03-01", 101)])[1].hits is None


def test_without_a_drug_registry():
    world = World()
    assert per_sale(world, [sale()])[1].skipped == {"no_registry": 1}


def test_mixed_drugs_make_one_finding_with_the_rest_related(world):
    events = [
        sale(order=5, key=1),
        sale(order=5, drug="8000002", key=2),
        sale(order=5, key=3),
    ]
    data, verdict = per_sale(world, events)
    keys = data.batch.event_key[verdict.hits.seq].tolist()
    assert keys == [1, 3]
    assert verdict.hits.related[0].tolist()[:2] == [1, -1]
    assert (verdict.hits.related[1] == -1).all()


# ---- over time


def test_rolling_window_over_all_sellers(world):
    events = [
        sale(f"2025-03-{d:02d} 10:00", buyer=8, source=f"X{d}", quantity=2) for d in (1, 3, 7)
    ]
    data, verdict = rolling(world, events)
    assert numbers(data, verdict.hits) == [2]
    assert verdict.hits.extra["window_days"].tolist() == [7]
    assert verdict.hits.observed.tolist() == [6.0]
    assert verdict.hits.related[0].tolist()[:3] == [1, 0, -1]
    other = World()
    other.drugs = EPHEDRINE
    assert rolling(other, [e | {"buyer": 8 + i} for i, e in enumerate(events)])[1].hits is None


def test_rolling_window_is_open_at_its_far_end(world):
    events = [
        sale("2025-03-01 10:00", buyer=8, quantity=2),
        sale("2025-03-08 10:00", buyer=8, quantity=3),  # seven days exactly: outside
        sale("2025-03-08 10:00", buyer=9, quantity=2),
        sale("2025-03-15 09:59", buyer=9, quantity=3),
    ]
    data, verdict = rolling(world, events)
    assert numbers(data, verdict.hits) == [3]


def test_rolling_fires_again_only_when_it_gets_worse(world):
    days = [1, 2, 3, 4, 10, 11, 25, 26, 27]
    events = [sale(f"2025-03-{d:02d} 10:00", buyer=8, quantity=2) for d in days]
    _, verdict = rolling(world, events)
    fired = {}
    for seq, days_, total in zip(
        verdict.hits.seq.tolist(),
        verdict.hits.extra["window_days"].tolist(),
        verdict.hits.observed.tolist(),
        strict=True,
    ):
        fired.setdefault(days_, []).append((seq, total))
    # Six on day 3, eight on day 4; four in the days after; six again on day 27.
    assert fired[7] == [(2, 6.0), (3, 8.0), (8, 6.0)]
    assert fired[30] == [(4, 10.0), (5, 12.0), (6, 14.0), (7, 16.0), (8, 18.0)]


def test_rolling_dates_count_when_every_moment_would(world):
    events = [
        # From the 1st to the 8th: seven days apart only for some moments.
        sale("2025-03-01", buyer=8, quantity=3),
        sale("2025-03-08", buyer=8, quantity=3),
        # From the 1st to the 7th: within seven days for all.
        sale("2025-03-01", buyer=9, quantity=3),
        sale("2025-03-07", buyer=9, quantity=3),
        # A timed and a dated sale of one day: both in by its end.
        sale("2025-03-01", buyer=10, quantity=3),
        sale("2025-03-01 10:00", buyer=10, quantity=3),
    ]
    data, verdict = rolling(world, events)
    assert numbers(data, verdict.hits) == [3, 4]
    assert verdict.hits.time.tolist() == data.batch.time[verdict.hits.seq].tolist()


def test_rolling_skips_and_nets(world):
    events = [
        *[sale(f"2025-03-01 1{i}:00", quantity=3) for i in range(3)],
        sale("2025-03-02 10:00", buyer=8, quantity=4, code=500),
        back("2025-03-02 11:00", 500),
        sale("2025-03-02 12:00", buyer=8, quantity=4, code=501),
    ]
    _, verdict = rolling(world, events)
    assert verdict.hits is None
    assert verdict.skipped == {"no_buyer": 3}
    assert verdict.judged == 2


def random_events(rng):
    events = []
    for number in range(400):
        time = f"2025-03-{rng.integers(1, 29):02d}"
        time += "" if rng.random() < 0.3 else f" {rng.integers(8, 12):02d}:{rng.integers(0, 3)}0"
        roll = rng.random()
        if roll < 0.8:
            event = sale(time, buyer=int(rng.integers(1, 6)), source=f"X{rng.integers(2)}")
            event["drug"] = f"800000{rng.integers(1, 3)}"
            event["code"] = int(rng.integers(1, 200))
            if rng.random() < 0.5:
                event["order"] = int(rng.integers(1, 60))
        elif roll < 0.9:
            event = back(time, int(rng.integers(1, 200)))
        else:
            event = void(time, int(rng.integers(0, 400)))
        events.append(event | {"number_": number})
    return events


def told(hits):
    if hits is None:
        return []
    related = [sorted(r[r >= 0].tolist()) for r in hits.related]
    return sorted(
        zip(hits.seq.tolist(), hits.time.tolist(), hits.observed, hits.group, related, strict=True),
        key=str,
    )


@pytest.mark.parametrize("detector", [QuotaPerSale(), QuotaRolling()], ids=lambda d: d.id)
@pytest.mark.parametrize("seed", [1, 2])
def test_any_split_by_days_and_any_order_of_equal_times(world, detector, seed):
    rng = np.random.default_rng(seed)
    data = world.slice(random_events(rng))
    parameters = detector.parameters()
    rows, _ = detector.select(data, parameters)
    whole = detector.advance(rows, detector.new_state(), parameters, data.last_day)
    assert len(whole) > 10
    order = np.lexsort((rng.random(len(rows["time"])), rows["time"]))
    shuffled = {name: column[order] for name, column in rows.items()}
    days = shuffled["time"] // 86_400_000_000
    state, parts = detector.new_state(), []
    for d in np.unique(days):
        chosen = {name: column[days == d] for name, column in shuffled.items()}
        parts += told(detector.advance(chosen, state, parameters, int(d)))
        state = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in state.items()}
    assert sorted(parts, key=str) == told(whole)

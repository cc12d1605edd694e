from __future__ import annotations

from tests.detectors.conftest import SALE, SHIP, numbers
from trace_engine.detectors.online_banned_sale import OnlineBannedSale
from trace_engine.events.batch import ONLINE

P = OnlineBannedSale.parameters()


def sale(drug, time="2025-03-01 10:00", **more):
    return {"kind": SALE, "source": "X", "time": time, "drug": drug, "flags": ONLINE, **more}


def test_ban_list_of_the_day(world):
    world.drugs = {
        "8000001": {"generic_name": "地高辛片"},
        "8000002": {"generic_name": "阿莫西林胶囊"},
        "8000003": {"classes": "ephedrine_compound"},
        "8000004": {},
    }
    events = [
        sale("8000001"),
        sale("8000002"),
        sale("8000003", quantity=3),
        sale("8000004"),  # registered, but nothing known of it
        sale("8999999"),
        sale("8000001", flags=0),  # over the counter
        sale("8000001", signal=0),  # an upload repeated
        {"kind": SHIP, "source": "W", "target": "X", "time": "2025-03-01 10:00", "flags": ONLINE},
    ]
    data = world.slice(events)
    verdict = OnlineBannedSale().judge(data, P)
    assert numbers(data, verdict.hits) == [0, 2]
    assert verdict.hits.observed.tolist() == [1.0, 3.0]
    assert verdict.judged == 3
    assert verdict.skipped == {"unknown_drug": 2}
    assert all(
        source.startswith("药品网络销售禁止清单") for source in verdict.hits.extra["list_source"]
    )


def test_before_the_list_was_in_force_nothing_is_banned(world):
    world.drugs = {"8000001": {"generic_name": "地高辛片"}}
    data = world.slice([sale("8000001", time="2022-11-30 10:00")])
    verdict = OnlineBannedSale().judge(data, P)
    assert verdict.hits is None
    assert verdict.judged == 1


def test_without_a_drug_registry(world):
    verdict = OnlineBannedSale().judge(world.slice([sale("8000001")]), P)
    assert verdict.skipped == {"no_registry": 1}

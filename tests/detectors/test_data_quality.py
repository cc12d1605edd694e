from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.conftest import SALE, SHIP, numbers
from trace_engine.core.conflicts import ONE_BILL, OVERFULL, Conflicts
from trace_engine.detectors.aggregation_conflict import (
    AggregationConflict,
    AggregationConflictParameters,
)
from trace_engine.detectors.malformed_code import MalformedCode
from trace_engine.detectors.time_disorder import TimeDisorder, TimeDisorderParameters
from trace_engine.detectors.unknown_product import UnknownProduct
from trace_engine.events.batch import (
    CODE_CHECK_DIGIT,
    CODE_HEADER,
    CODE_STRUCTURE,
    DRUG_DECLARED,
    NATIONAL_LIMIT,
)
from trace_engine.events.kinds import EventKind

P = MalformedCode.parameters()


def event(number_of_problem=0, kind=SHIP, **more):
    return {
        "kind": kind,
        "source": "A",
        "target": "B",
        "actor": "A",
        "time": "2025-03-01 10:00",
        "code_problem": number_of_problem,
        **more,
    }


def test_malformed_codes_fire_by_problem_and_lookups_do_not(world):
    events = [
        event(),
        event(CODE_STRUCTURE | CODE_CHECK_DIGIT),
        event(CODE_CHECK_DIGIT, kind=EventKind.PURCHASE_RECEIPT, actor="B"),
        event(CODE_HEADER),
        event(CODE_STRUCTURE, kind=EventKind.VERIFICATION),
    ]
    data = world.slice(events)
    verdict = MalformedCode().judge(data, P)
    assert numbers(data, verdict.hits) == [1, 2, 3]
    assert verdict.judged == 4
    assert verdict.skipped == {"look_up": 1}
    assert verdict.hits.severity.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert len(set(verdict.hits.group.tolist())) == 3
    parties = data.vocabulary.parties
    assert [parties.text(p) for p in verdict.hits.subject] == ["A", "B", "A"]
    assert "校验位" in verdict.hits.extra["problem_zh"][1]


def test_unknown_product_needs_a_drug_registry(world):
    data = world.slice([event(), event()])
    assert UnknownProduct().judge(data, P).skipped == {"no_registry": 2}


def test_unknown_product_and_conflicting_declaration(world):
    world.drugs = {
        "8000001": {"approval_no": "国药准字H20000001"},
        "8000002": {"approval_no": "国药准字H20000001"},  # a larger pack of the same product
        "8000003": {"approval_no": "国药准字H20000003"},
        "8000004": {},
    }
    declared = {"flags": DRUG_DECLARED}
    events = [
        event(drug="8000001"),
        event(drug="8999999"),
        event(drug="8000001", code_drug="8000002", **declared),
        event(drug="8000001", code_drug="8000003", **declared),
        event(drug="8000001", code_drug="8000004", **declared),  # no approval number to compare
        event(drug="ERP-17", code_drug="8000003", **declared),  # own number, registered code
        event(drug="8000001", code_drug="8999999", **declared),
        event(drug="ERP-17", code_drug="8999999", **declared),
    ]
    data = world.slice(events)
    verdict = UnknownProduct().judge(data, P)
    assert numbers(data, verdict.hits) == [1, 3, 7]
    assert verdict.judged == 8
    by_row = dict(zip(verdict.hits.seq.tolist(), verdict.hits.group.tolist(), strict=True))
    assert by_row == {1: 1, 7: 1, 3: 2}


def test_time_disorder_allows_skew_and_the_whole_day(world):
    events = [
        event(record="2025-03-01 09:51"),  # within 10 minutes of skew
        event(record="2025-03-01 09:49"),
        event(record="2025-03-08 10:00"),  # seven days exactly
        event(record="2025-03-08 10:01"),
        event(time="2025-03-01", record="2025-03-01 00:00"),
        event(time="2025-03-01", record="2025-02-28 23:49"),
        event(time="2025-03-01", record="2025-03-09 00:00"),  # seven days after the day's end
        event(time="2025-03-01", record="2025-03-09 00:01"),
        event(kind=SALE),
    ]
    data = world.slice(events)
    verdict = TimeDisorder().judge(data, TimeDisorderParameters())
    assert numbers(data, verdict.hits) == [1, 3, 5, 7]
    assert verdict.judged == 8
    assert verdict.skipped == {"no_record_time": 1}
    hits = verdict.hits
    cases = {int(k) - 7000: i for i, k in enumerate(data.batch.event_key[hits.seq])}
    assert hits.observed[cases[1]] == pytest.approx(11 / 1440)
    assert hits.severity[cases[1]] == 0.5
    assert hits.observed[cases[7]] == pytest.approx(7 + 1 / 1440)
    assert hits.severity[cases[7]] == pytest.approx(0.2, abs=0.001)


def test_time_disorder_grows_with_the_lag(world):
    data = world.slice([event(record="2025-03-29 10:00"), event(record="2026-03-01 10:00")])
    verdict = TimeDisorder().judge(data, TimeDisorderParameters())
    assert verdict.hits.severity.tolist() == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize(("excess", "fires"), [(1, [0, 1, 2]), (3, [0, 2]), (4, [0])])
def test_overfull_from_the_excess_that_the_policy_says(world, excess, fires):
    data = world.slice([event(), event(), event()])
    data.custody.conflicts = Conflicts(
        rows=np.arange(3),
        why=np.array([ONE_BILL, OVERFULL, OVERFULL], np.int8),
        parent=np.array([1, 2, 3], np.uint64),
        party=np.full(3, -1, np.int32),
        inside=np.array([1, 25, 27]),
        limit=np.array([0, 24, 24]),
    )
    verdict = AggregationConflict().judge(data, AggregationConflictParameters(excess=excess))
    assert numbers(data, verdict.hits) == fires
    of_bill = [row == 0 for row in fires]
    assert (verdict.hits.threshold == np.where(of_bill, 0, 24)).all()
    assert [("27" in text) for text in verdict.hits.extra["reason_en"]] == [r == 2 for r in fires]


def test_packing_into_parents_of_unknown_size_is_counted_as_not_judged(world):
    world.drugs = {"8000001": {"pack_spec": "24片/盒×24盒/箱"}, "8000002": {"pack_spec": "24片/盒"}}
    packing = {"kind": EventKind.PACK, "target": None}
    events = [
        event(**packing, drug="8000001"),
        event(**packing, drug="8000002"),
        event(**packing, drug="8000001"),
        event(drug="8000002"),
    ]
    data = world.slice(events)
    data.custody.conflicts = None
    of_a_shipping_unit = NATIONAL_LIMIT + 1
    data.batch.optional["parent"] = np.array([5, 5, of_a_shipping_unit, 5], np.uint64)
    verdict = AggregationConflict().judge(data, AggregationConflictParameters())
    assert verdict.hits is None
    assert verdict.skipped == {"no_pack_ratio": 2}
    assert verdict.judged == 4

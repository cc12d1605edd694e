from __future__ import annotations

import datetime as dt
from collections import Counter

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.ranking.builders import DETECTORS, Tables, exposure, finding, findings, time
from trace_engine.ranking import rank
from trace_engine.sampling import SAMPLING_PLAN, SamplingParameters, describe, plan
from trace_engine.sampling.planning import FINDING_COLUMNS, candidates
from trace_engine.sampling.targets import Target, allocate

AS_OF = dt.date(2026, 2, 2)
PROVINCES = ("110101", "310115", "370102", "440305", "510104")
TYPES = ("pharmacy", "wholesaler", "public_hospital", "chain_store")
IDS = [f"S{i:03d}" for i in range(200)]


def enterprises(**columns):
    table = {
        "enterprise_id": IDS,
        "name": [f"企业{i}" for i in range(200)],
        "uscc": [f"U{i}" for i in range(200)],
        "licence_no": [f"L{i}" for i in range(200)],
        "type": [TYPES[i % 4] for i in range(200)],
        "region": [PROVINCES[i % 5] for i in range(200)],
        "address": [None] * 200,
    }
    return pa.table(table | columns)


DRUGS = pa.table(
    {
        "drug_id": ["8000001", "8000002"],
        "generic_name": ["阿卡波糖片", "布洛芬缓释胶囊"],
        "approval_no": ["国药准字H20000001", "国药准字H20000002"],
        "pack_spec": ["30片/盒", "20粒/盒"],
    }
)
REGISTRY = Tables(enterprises=enterprises(), drugs=DRUGS)


class Policy:
    """A policy of given parameters."""

    def __init__(self, **values):
        self._values = values

    def section(self, name, kind):
        return kind(**self._values) if name == "sampling" else kind()


def make(rows, *, budget, seed=7, registry=REGISTRY, events=None, as_of=AS_OF, sold=None, **values):
    table = findings(rows)
    columns = {} if sold is None else sold
    seen = exposure(dict.fromkeys(IDS, 1000) if events is None else events, **columns)
    sellers = rank(table, seen, registry, detectors=DETECTORS)
    policy = Policy(**values)
    return plan(
        sellers,
        table,
        registry,
        policy,
        budget=budget,
        seed=seed,
        as_of=as_of,
        detectors=DETECTORS,
    )


def guilty(count, detector="dead_code_use", **values):
    return [
        finding(10 * i + j, f"S{i:03d}", detector, 0.7, drug_id="8000001", **values)
        for i in range(count)
        for j in range(3)
    ]


def arm(table, name):
    return [row for row in table.to_pylist() if row["arm"] == name]


def test_four_fifths_by_risk_one_fifth_at_random():
    table = make(guilty(60), budget=50)
    assert table.schema.equals(SAMPLING_PLAN)
    assert (len(arm(table, "risk")), len(arm(table, "random"))) == (40, 10)
    assert table.column("sequence").to_pylist() == list(range(1, 51))
    assert {row["inclusion_probability"] for row in arm(table, "risk")} == {1.0}
    assert {row["inclusion_probability"] for row in arm(table, "random")} == {10 / 200}
    assert set(table.column("seed").to_pylist()) == {7}


def test_a_line_of_the_risk_arm_says_everything_a_buyer_needs():
    rows = [
        finding(1, "S000", "dead_code_use", 0.9, drug_id="8000001", batch_no="B1", code="c1"),
        finding(
            2,
            "S000",
            "dead_code_use",
            0.8,
            drug_id="8000001",
            codes=["c1", "c2", "c3", "c4", "c5", "c6", "c7"],
        ),
        finding(3, "S000", "repeated_transfer", 0.4, drug_id="8000001"),
        finding(4, "S000", "repeated_transfer", 0.3, drug_id="8000001"),
    ]
    row = make(rows, budget=1).to_pylist()[0]
    assert (row["arm"], row["enterprise_id"], row["name"]) == ("risk", "S000", "企业0")
    assert (row["uscc"], row["licence_no"], row["type"]) == ("U0", "L0", "pharmacy")
    assert (row["generic_name"], row["approval_no"]) == ("阿卡波糖片", "国药准字H20000001")
    assert row["pack_spec"] == "30片/盒"
    assert row["batch_no"] == "B1"
    assert row["codes"] == ["c1", "c2", "c3", "c4", "c5"]
    # The strongest of each rule before the next of the same.
    assert row["finding_ids"] == ["F0001", "F0003", "F0002"]
    assert "线索F0001" in row["why_zh"]
    assert "4条" in row["why_zh"]
    assert "finding F0003" in row["why_en"]
    assert (row["channel"], row["method_zh"], row["quantity"]) == ("offline", "现场抽样", 6)
    assert row["responsible_bureau"].endswith("市场监督管理局")
    # 2 February 2026 and ten working days: 3-6, 9-14 (the 14th makes up for Spring Festival).
    assert row["due_date"] == dt.date(2026, 2, 14)
    assert row["due_date_basis"] == "state_council"
    assert row["value"] == pytest.approx(row["score"])


def test_one_seller_does_not_take_the_budget():
    # S000 has findings on many drugs and by far the most of them.
    rows = [finding(i, "S000", "dead_code_use", 0.9, drug_id=f"81{i % 30:05d}") for i in range(300)]
    rows += [finding(1000 + i, f"S{i:03d}", "repeated_transfer", 0.5) for i in range(1, 11)]
    table = make(rows, budget=10, maximum_per_seller=30)
    counts = Counter(row["enterprise_id"] for row in arm(table, "risk"))
    assert counts["S000"] < 4
    assert len(counts) >= 6
    assert Counter(r["enterprise_id"] for r in arm(make(rows, budget=60), "risk"))["S000"] == 3


def test_a_province_takes_its_share_only_while_others_have_targets():
    # Every seller of province 11 is strongly suspected, a few elsewhere weakly.
    rows = [finding(i, IDS[i], "dead_code_use", 0.9) for i in range(0, 200, 5)]
    rows += [finding(500 + i, IDS[i], "price_inversion", 0.2) for i in (1, 2, 3, 4)]
    risk = arm(make(rows, budget=10), "risk")
    assert len(risk) == 8
    assert Counter(row["region"] for row in risk)["110101"] == 4
    # Eight at 30 % would be three; the fourth fills a place that nobody else could take.
    assert {"310115", "370102", "440305", "510104"} < {row["region"] for row in risk}


def test_capacity_of_a_province_is_never_exceeded():
    rows = [finding(i, IDS[i], "dead_code_use", 0.9) for i in range(0, 200, 5)]
    table = make(rows, budget=20, jurisdiction_capacity=2)
    assert len(arm(table, "risk")) == 2
    # What the risk arm cannot use goes to the random arm.
    assert len(arm(table, "random")) == 18
    assert arm(table, "random")[0]["inclusion_probability"] == 18 / 200


def test_no_findings_give_a_random_plan():
    table = make([], budget=30)
    assert (len(arm(table, "risk")), len(arm(table, "random"))) == (0, 30)
    assert {tuple(row["codes"]) for row in table.to_pylist()} == {()}


def test_random_arm_is_blind_to_findings():
    row = arm(make(guilty(200), budget=50), "random")[0]
    assert (row["drug_id"], row["batch_no"], row["finding_ids"], row["value"]) == (
        None,
        None,
        [],
        None,
    )


def test_random_arm_spreads_over_type_and_province():
    drawn = arm(make([], budget=20, random_share=1.0), "random")
    # Twenty strata of ten sellers each, twenty draws: one from each.
    assert Counter((row["type"], row["region"]) for row in drawn) == Counter(
        {(t, r): 1 for t in TYPES for r in PROVINCES}
    )


def test_random_arm_covers_only_sellers_with_events():
    events = dict.fromkeys(IDS[:10], 5) | dict.fromkeys(IDS[10:], 0)
    table = make(guilty(1), budget=30, events=events)
    drawn = arm(table, "random")
    assert sorted(row["enterprise_id"] for row in drawn) == IDS[:10]
    assert {row["inclusion_probability"] for row in drawn} == {1.0}


def test_budget_zero_and_beyond_everything():
    empty = make(guilty(5), budget=0)
    assert (empty.num_rows, empty.schema.equals(SAMPLING_PLAN)) == (0, True)
    table = make(guilty(5), budget=1000)
    assert (len(arm(table, "risk")), len(arm(table, "random"))) == (5, 200)


def test_no_sellers_at_all():
    assert make([], budget=5, events={}).num_rows == 0


def test_wrong_budget_or_seed_is_refused():
    with pytest.raises(ValueError, match="budget: found -1"):
        make([], budget=-1)
    with pytest.raises(ValueError, match="seed: found -3"):
        make([], budget=1, seed=-3)


def test_same_plan_whatever_the_order_of_rows():
    rows = guilty(60) + [finding(900 + i, f"S{i:03d}", "price_inversion") for i in range(40)]
    assert make(rows, budget=50).equals(make(rows[::-1], budget=50))
    assert not make(rows, budget=50, seed=8).equals(make(rows, budget=50))


def inspected(day):
    return Tables(
        enterprises=enterprises(),
        inspections=pa.table(
            {"enterprise_id": ["S000"], "date": [day], "outcome": ["clean"]},
        ),
    )


@pytest.mark.parametrize(
    "day,taken",
    [
        (dt.date(2026, 1, 25), False),  # checked after the finding, within the cool-down
        (dt.date(2026, 1, 20), False),  # on its day
        (dt.date(2026, 1, 19), True),  # the finding is new evidence
        (dt.date(2025, 10, 1), True),  # long ago
        (dt.date(2026, 2, 9), True),  # announced for after the plan's day
    ],
)
def test_cool_down_after_an_inspection(day, taken):
    rows = [finding(1, "S000", "dead_code_use", 0.9, event_time=time("2026-01-20", 0))]
    risk = arm(make(rows, budget=1, registry=inspected(day)), "risk")
    assert [row["enterprise_id"] for row in risk] == (["S000"] if taken else [])


def test_data_quality_sends_nobody_to_buy():
    assert arm(make(guilty(5, "time_disorder"), budget=10), "risk") == []


SHOPS = pa.table(
    {
        "shop_id": ["shopA", "shopB", "shopC"],
        "platform_id": ["P1", "P1", "P2"],
        "enterprise_id": ["S000", "S000", "S000"],
        "name": ["旧店", "康健旗舰店", "康健二店"],
        "url": [None, "https://shop.example/b", None],
        "reported_from": [dt.date(2020, 1, 1)] * 3,
        "reported_to": [dt.date(2025, 1, 1), None, None],
    }
)


@pytest.mark.parametrize(
    "values,shop",
    [
        ({"order_code": "O1"}, ("shopB", "P1", "康健旗舰店")),
        ({"evidence": '{"shop_id": "shopC"}'}, ("shopC", "P2", "康健二店")),
        ({"evidence": '{"platform_id": "P2"}'}, ("shopC", "P2", "康健二店")),
        (
            {"evidence": '{"path": [{"shop_id": "shopA"}, {"shop_id": "shopC"}, {}]}'},
            ("shopC", "P2", "康健二店"),
        ),
        ({"evidence": '{"shop_id": "unheard-of"}'}, ("unheard-of", None, None)),
    ],
)
def test_online_targets_name_the_shop(values, shop):
    registry = Tables(enterprises=enterprises(), shops=SHOPS)
    rows = [finding(1, "S000", "dead_code_use", 0.9, **values)]
    row = make(rows, budget=1, registry=registry).to_pylist()[0]
    assert (row["channel"], row["method_zh"]) == ("online", "网络购样")
    assert (row["shop_id"], row["platform_id"], row["shop_name"]) == shop


def test_channel_of_online_sellers_hospitals_and_conduct():
    sold = {
        "packs_sold": dict.fromkeys(IDS, 100),
        "packs_sold_online": {"S000": 80, "S003": 10},
    }
    rows = [
        finding(1, "S000", "dead_code_use", 0.9),
        finding(2, "S001", "dead_code_use", 0.9, order_code="O"),
        finding(3, "S002", "online_banned_sale", 0.9),
        finding(4, "S003", "online_banned_sale", 0.9),
        finding(5, "S004", "quota_per_sale", 0.9),
    ]
    lines = {row["enterprise_id"]: row for row in arm(make(rows, budget=6, sold=sold), "risk")}
    assert {seller: (row["channel"], row["method"]) for seller, row in lines.items()} == {
        "S000": ("online", "online_purchase"),
        "S001": ("online", "on_site"),  # a wholesaler sells to nobody who walks in
        "S002": ("hospital", "on_site"),
        "S003": ("online", "mystery_buyer"),
        "S004": ("offline", "mystery_buyer"),
    }


def test_evidence_that_is_not_json_says_nothing_of_a_shop():
    rows = [finding(1, "S000", "dead_code_use", 0.9, evidence='"shop_id" = 5')]
    assert make(rows, budget=1).to_pylist()[0]["channel"] == "offline"


def test_allocation_by_hand():
    targets = [
        Target(seller, None, "offline", value, [])
        for seller, value in [(0, 0.9), (1, 0.8), (2, 0.7), (3, 0.6)]
    ]
    where = ["11", "11", "11", "31"]
    assert [t.seller for t in allocate(targets, where, 2, 1, 0)] == [0, 3]
    assert [t.seller for t in allocate(targets, where, 3, 1, 0)] == [0, 1, 3]
    assert [t.seller for t in allocate(targets, where, 4, 1, 2)] == [0, 1, 3]
    assert allocate(targets, where, 0, 1, 0) == []


def test_every_parameter_states_unit_and_chinese():
    schema = msgspec.json.schema(SamplingParameters)["$defs"]["SamplingParameters"]
    for field in schema["properties"].values():
        assert field["unit"]
        assert field["zh"]
        assert field["description"]


def test_reasons_state_units_in_both_languages():
    found = {
        "title_zh": "召回后销售", "title_en": "Sold after recall", "detector": "recalled_sale",
        "observed": 24.40829, "threshold": 2.0, "unit": "days", "code_count": 1, "finding_id": "F1",
    }  # fmt: skip
    zh, en = describe.risk_reason(
        0.9, "D", [found, {**found, "observed": 1680.083, "unit": "km/h"}], 2
    )
    assert "观测值24.41天，阈值2天" in zh
    assert "观测值1680公里/小时" in zh
    assert "observed 24.41 days, threshold 2 days, 1 code(s)" in en


@pytest.mark.parametrize("seed", range(12))
def test_findings_of_candidates_alone_give_the_same_plan(seed):
    random = np.random.default_rng(seed)
    rows = [
        finding(
            number,
            f"S{random.integers(210):03d}",  # some that nobody knows
            str(random.choice(["dead_code_use", "repeated_transfer", "missing_fields"])),
            float(random.choice([0.0, 0.2, 0.5, 0.5, 0.9])),
            drug_id=str(random.choice(["8000001", "8000002"])),
            order_code=str(random.choice(["O1", ""])) or None,
            family=str(random.choice(["suspected_violation", "data_quality"], p=[0.9, 0.1])),
        )
        for number in range(random.integers(400))
    ]
    checks = pa.table(
        {
            "enterprise_id": [f"S{random.integers(200):03d}" for _ in range(40)],
            "date": [AS_OF - dt.timedelta(days=int(random.integers(-5, 400))) for _ in range(40)],
        }
    )
    registry = Tables(enterprises=enterprises(), drugs=DRUGS, inspections=checks)
    table = findings(rows)
    sellers = rank(table, exposure(dict.fromkeys(IDS, 1000)), registry, detectors=DETECTORS)
    policy = Policy(
        random_share=float(random.choice([0.0, 0.2])),
        jurisdiction_share=float(random.choice([0.1, 0.3, 1.0])),
        jurisdiction_capacity=int(random.choice([0, 3])),
        maximum_per_seller=int(random.choice([1, 4])),
    )
    few = 0
    for budget in (0, 1, 7, 30, 90, 500):
        given = {"budget": budget, "as_of": AS_OF}
        read = table.select(["subject_id", "family", "severity", "code_count"])
        wanted = candidates(sellers, read, registry, policy, **given)
        assert len(set(wanted)) == len(wanted)
        of_them = table.filter(pc.is_in(table["subject_id"], pa.array(wanted, pa.string())))
        few += of_them.num_rows < table.num_rows
        given |= {"seed": seed, "detectors": DETECTORS}
        part = plan(sellers, of_them.select(FINDING_COLUMNS), registry, policy, **given)
        assert part.equals(plan(sellers, table, registry, policy, **given))
    assert few or not rows

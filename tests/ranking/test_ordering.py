from __future__ import annotations

import datetime as dt
import json
import math

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ranking.builders import DETECTORS, Tables, by_id, exposure, finding, findings
from trace_engine.policy import PolicyError
from trace_engine.ranking import RankingParameters, rank
from trace_engine.ranking.ordering import PARTS, DetectorFacts, catalogue
from trace_engine.ranking.reasons import expected_text
from trace_engine.ranking.reference import section

MARKET = {f"M{i:03d}": 1000 for i in range(100)}


def ranked(rows, events=MARKET, registry=None, policy=None, **columns):
    table = findings(rows)
    return rank(table, exposure(events, **columns), registry, policy, detectors=DETECTORS)


def contributions(table: pa.Table) -> np.ndarray:
    return sum(table.column(f"contribution_{part}").to_numpy() for part in PARTS)


random_findings = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from([*DETECTORS, "from_elsewhere"]),
        st.floats(0, 1, width=32),
        st.integers(1, 10_000),
    ),
    max_size=40,
)
random_events = st.lists(st.integers(0, 5000), min_size=8, max_size=8)


def build(rows, start=0):
    return [
        finding(start + i, f"S{seller}", detector, severity, code_count=codes)
        for i, (seller, detector, severity, codes) in enumerate(rows)
    ]


def market(events):
    return {f"S{i}": count for i, count in enumerate(events)}


@settings(deadline=None, max_examples=60)
@given(random_findings, random_events)
def test_contributions_add_up_to_the_score(rows, events):
    table = ranked(build(rows), market(events))
    score = table.column("score").to_numpy()
    assert np.abs(contributions(table) - score).max() < 1e-12
    assert ((score > 0) & (score <= 1)).all()
    for part in PARTS:
        assert (table.column(f"contribution_{part}").to_numpy() >= 0).all()


@settings(deadline=None, max_examples=60)
@given(random_findings, random_events, random_findings.filter(bool))
def test_a_further_finding_never_lowers_a_score(rows, events, more):
    extra = build(more[:1], start=1000)
    who = extra[0]["subject_id"]
    before = by_id(ranked(build(rows), market(events)))[who]
    after = by_id(ranked(build(rows) + extra, market(events)))[who]
    assert after["score"] >= before["score"] - 1e-12
    assert after["tier"] >= before["tier"]


@settings(deadline=None, max_examples=40)
@given(random_findings, random_events, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows, events, random):
    built = build(rows)
    shuffled = list(built)
    random.shuffle(shuffled)
    backwards = dict(reversed(list(market(events).items())))
    assert ranked(shuffled, backwards).equals(ranked(built, market(events)))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.floats(0.05, 0.75), st.integers(10, 4000))
def test_the_same_findings_weigh_less_on_more_exposure(count, severity, events):
    noise = [finding(500 + i, f"M{i:03d}", "price_inversion", 0.5) for i in range(100)]
    own = [finding(i, "X", "price_inversion", severity) for i in range(count)]
    small = by_id(ranked(noise + own, MARKET | {"X": events}))["X"]["score"]
    large = by_id(ranked(noise + own, MARKET | {"X": events * 50}))["X"]["score"]
    # What the market's rate explains in full is worth the base rate, and cannot be worth less.
    assert large < small or small == large == pytest.approx(0.01)


def test_nothing_found_leaves_the_base_rate():
    table = ranked([])
    assert table.num_rows == 100
    assert table.column("score").to_pylist() == pytest.approx([0.01] * 100)
    assert set(table.column("tier").to_pylist()) == {"A"}
    # Ties are ordered by id.
    assert table.column("enterprise_id").to_pylist() == sorted(MARKET)
    assert table.column("rank").to_pylist() == list(range(1, 101))
    assert set(table.column("reasons_en").to_pylist()) == {"no findings: base rate only"}


def test_no_rows_at_all():
    table = ranked([], {})
    assert table.num_rows == 0
    assert table.column_names == ranked([]).column_names


def test_score_of_one_finding_by_hand():
    # 0.5 severe, nobody else has any: V = -ln(1 - 0.475), x = ln(1 + V), cap 4.
    row = by_id(ranked([finding(1, "M000", "repeated_transfer", 0.5)]))["M000"]
    x = math.log1p(-math.log1p(-0.475))
    x = 4 * (1 - math.exp(-x / 4))
    assert row["score"] == pytest.approx(1 - (1 - 0.01) * math.exp(-x))
    share = x / (x - math.log(0.99))
    assert row["contribution_custody"] == pytest.approx(row["score"] * share)


def test_big_honest_seller_does_not_top_a_small_guilty_one():
    # The market has one weak finding a thousand events; BIG has its share, SMALL far more.
    noise = [finding(i, f"M{i % 100:03d}", "price_inversion", 0.4) for i in range(100)]
    big = [finding(200 + i, "BIG", "price_inversion", 0.4) for i in range(105)]
    small = [finding(400 + i, "SMALL", "price_inversion", 0.4) for i in range(6)]
    rows = by_id(ranked(noise + big + small, MARKET | {"BIG": 100_000, "SMALL": 200}))
    assert rows["SMALL"]["rank"] == 1
    assert rows["SMALL"]["score"] > 0.5
    assert rows["BIG"]["score"] < 0.3


def test_tiny_seller_with_one_weak_finding_tops_nobody_guilty():
    weak = [finding(1, "TINY", "price_inversion", 0.3)]
    strong = [finding(10 + i, "GUILTY", "repeated_transfer", 0.7) for i in range(4)]
    rows = by_id(ranked(weak + strong, MARKET | {"TINY": 3, "GUILTY": 2000}))
    assert rows["GUILTY"]["rank"] == 1
    assert rows["TINY"]["tier"] in "AB"


def test_a_single_specific_finding_still_ranks_on_a_giant():
    noise = [finding(i, f"M{i % 100:03d}", "dead_code_use", 0.4) for i in range(200)]
    giant = [finding(500 + i, "GIANT", "dead_code_use", 0.4) for i in range(200)]
    certain = [finding(900, "GIANT", "dead_code_use", 1.0)]
    events = MARKET | {"GIANT": 100_000}
    without = by_id(ranked(noise + giant, events))["GIANT"]
    with_it = by_id(ranked(noise + giant + certain, events))["GIANT"]
    assert without["tier"] in "AB"
    assert with_it["rank"] == 1
    assert with_it["tier"] in "CD"


def test_violators_do_not_excuse_one_another():
    # Three guilty sellers of a hundred show the same thing at the same rate.
    rows = [
        finding(100 * s + i, f"M{s:03d}", "ownership_cycle", 0.7)
        for s in range(3)
        for i in range(9)
    ]
    table = by_id(ranked(rows))
    assert {table[f"M{s:03d}"]["tier"] for s in range(3)} == {"D"}


def test_independent_families_beat_one_family():
    same = [
        finding(i, "M001", d, 0.6) for i, d in enumerate(["repeated_transfer", "ownership_cycle"])
    ]
    apart = [
        finding(9 + i, "M002", d, 0.6)
        for i, d in enumerate(["repeated_transfer", "price_inversion"])
    ]
    rows = by_id(ranked(same + apart))
    assert rows["M002"]["score"] > rows["M001"]["score"]


def test_data_quality_is_capped():
    rows = [finding(i, "M000", "time_disorder", 1.0, code_count=10_000) for i in range(500)]
    row = by_id(ranked(rows))["M000"]
    assert row["score"] == pytest.approx(1 - 0.99 * math.exp(-0.2), abs=1e-3)
    assert row["tier"] == "A"
    assert (row["findings_data_quality"], row["findings_violation"]) == (500, 0)
    assert row["contribution_scanning"] == 0.0
    assert row["contribution_data_quality"] > 0.15


def test_counterparties_get_nothing_and_subjects_without_exposure_a_row():
    rows = by_id(ranked([finding(1, "STRANGER", "dead_code_use", 1.0, counterparty_id="M007")]))
    assert rows["M007"]["score"] == pytest.approx(0.01)
    assert rows["STRANGER"]["rank"] == 1
    assert rows["STRANGER"]["events"] == 0
    assert rows["STRANGER"]["first_time"] is None


def test_findings_without_subject_are_counted():
    table = ranked([finding(1, None, "dead_code_use"), finding(2, "M000", "dead_code_use")])
    assert table.schema.metadata[b"findings_without_subject"] == b"1"
    assert table.num_rows == 100


def test_counts_and_registered_facts():
    registry = Tables(
        enterprises=pa.table(
            {
                "enterprise_id": ["M001", "M000"],
                "name": ["仁和大药房", "华东医药批发"],
                "type": ["药店", "wholesaler"],
                "region": ["370102", "310115"],
            }
        )
    )
    rows = [
        finding(1, "M000", "dead_code_use", amount=10.5),
        finding(2, "M000", "dead_code_use", amount=None),
        finding(3, "M000", "time_disorder", amount=99.0),
        finding(4, "M002", "from_elsewhere", subject_type="chain_store", region="440305"),
        finding(5, "M003", "dead_code_use", subject_type="", region=""),
        finding(6, "", "dead_code_use"),
    ]
    table = by_id(ranked(rows, registry=registry))
    first = table["M000"]
    assert (first["name"], first["type"], first["region"]) == (
        "华东医药批发",
        "wholesaler",
        "310115",
    )
    assert (table["M001"]["type"], table["M001"]["registered"]) == ("pharmacy", True)
    assert (first["n_dead_code_use"], first["n_time_disorder"], first["n_price_inversion"]) == (
        2,
        1,
        0,
    )
    assert json.loads(first["findings_by_detector"]) == {"dead_code_use": 2, "time_disorder": 1}
    assert table["M004"]["findings_by_detector"] == "{}"
    assert (table["M003"]["type"], table["M003"]["region"]) == (None, None)
    assert "" not in table
    assert first["amount"] == pytest.approx(10.5)
    stranger = table["M002"]
    assert (stranger["type"], stranger["region"], stranger["registered"]) == (
        "chain_store",
        "440305",
        False,
    )
    assert stranger["contribution_other"] > 0


def test_past_violations_count_until_they_are_old():
    registry = Tables(
        inspections=pa.table(
            {
                "enterprise_id": ["M000", "M000", "M001", "M002", "M003", "ELSEWHERE"],
                "date": [
                    dt.date(2025, 6, 1),
                    dt.date(2025, 7, 1),
                    dt.date(2025, 7, 1),
                    dt.date(2010, 7, 1),
                    dt.date(2026, 2, 1),  # after the last event: not known yet
                    dt.date(2025, 7, 1),
                ],
                "outcome": [
                    "violation",
                    "violation",
                    "clean",
                    "violation",
                    "violation",
                    "violation",
                ],
            }
        )
    )
    table = ranked([], registry=registry)
    rows = by_id(table)
    assert [rows[f"M00{i}"]["past_violations"] for i in range(4)] == [2, 0, 0, 0]
    assert rows["M000"]["score"] == pytest.approx(1 - 0.99 * math.exp(-0.2))
    assert "既往检查违规2次" in rows["M000"]["reasons_zh"]
    assert np.abs(contributions(table) - table.column("score").to_numpy()).max() < 1e-12


def test_reasons_name_the_three_strongest_families_in_order():
    rows = [finding(i, "M000", "dead_code_use", 0.9) for i in range(12)]
    rows += [finding(20 + i, "M000", "repeated_transfer", 0.7) for i in range(4)]
    rows += [finding(30, "M000", "ownership_cycle", 0.3), finding(31, "M000", "price_inversion")]
    rows += [finding(40, "M000", "time_disorder", 0.2)]
    row = by_id(ranked(rows))["M000"]
    assert [part.split("：")[0] for part in row["reasons_zh"].split("；")] == [
        "追溯码",
        "流转",
        "价格",
    ]
    assert "异常状态码流通12条（同等业务量预期0条）" in row["reasons_zh"]
    assert (
        "repeated transfer: 4 (expected for its volume: 0) and 1 more rule(s)" in row["reasons_en"]
    )
    assert f"{row['contribution_code']:.2f} of the score" in row["reasons_en"]
    assert f"得分贡献{row['contribution_code']:.2f}" in row["reasons_zh"]


@pytest.mark.parametrize(
    "expected, text",
    [(0.0, "0"), (0.00086, "<0.01"), (0.013, "0.01"), (0.26, "0.3"), (9.94, "9.9"), (31.6, "32")],
)
def test_expected_counts_are_told_to_two_decimals(expected, text):
    assert expected_text(expected) == text


def test_tiers_follow_the_policy():
    rows = [finding(i, "M000", "dead_code_use", 0.9) for i in range(3)]
    score = by_id(ranked(rows))["M000"]["score"]
    for cuts, tier in [
        ((score, 0.99, 0.99), "B"),
        ((0.005, score, 0.99), "C"),
        ((0.005, 0.005, score), "D"),
    ]:
        policy = RankingParameters(tier_b=cuts[0], tier_c=cuts[1], tier_d=cuts[2])
        assert by_id(ranked(rows, policy=policy))["M000"]["tier"] == tier


def test_exposure_column_is_by_detector():
    noise = [finding(i, f"M{i:03d}", "price_inversion", 0.5) for i in range(100)]
    own = [finding(500 + i, "M000", "price_inversion", 0.5) for i in range(5)]
    sold = dict.fromkeys(MARKET, 1000) | {"M000": 1}
    by_events = by_id(ranked(noise + own, packs_sold=sold))["M000"]["score"]
    policy = RankingParameters(exposure={"price_inversion": "packs_sold"})
    by_packs = by_id(ranked(noise + own, policy=policy, packs_sold=sold))["M000"]["score"]
    assert by_packs > by_events


def test_parameters_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="tier_b <= tier_c <= tier_d"):
        RankingParameters(tier_b=0.9)
    with pytest.raises(ValueError, match="'packs' is none of events"):
        RankingParameters(exposure={"dead_code_use": "packs"})

    class Contradictory:
        def section(self, name, kind):
            return kind(tier_b=0.9)

    with pytest.raises(PolicyError, match=r"^\[ranking\]: tier_b"):
        section(Contradictory(), "ranking", RankingParameters)


def test_parameters_out_of_bounds_are_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"base_rate": 0.0}, RankingParameters)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"unheard_of": 1}, RankingParameters)


def test_every_parameter_states_unit_and_chinese():
    for field in msgspec.json.schema(RankingParameters)["$defs"]["RankingParameters"][
        "properties"
    ].values():
        assert field["unit"]
        assert field["zh"]
        assert field["description"]


def test_catalogue_knows_the_installed_detectors():
    for name, facts in catalogue().items():
        assert isinstance(facts, DetectorFacts), name
        assert facts.evidence in PARTS

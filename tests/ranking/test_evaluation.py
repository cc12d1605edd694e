from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.ranking.builders import DETECTORS, exposure, finding, findings, time
from trace_engine.ranking import evaluate, format_report, rank
from trace_engine.ranking.evaluation import TruthError, read_guilty

# Wall clock, as the simulator writes it.
BEGIN = dt.datetime.fromisoformat("2026-01-18T10:00:00")
SCHEMES = [
    ("s1", "dead_code_use", "S1", ["c1", "c2"], ["e1"]),
    ("s2", "dead_code_use", "S2", ["c3"], ["e3"]),
    ("s3", "price_inversion", "S2", ["c4"], ["e4"]),
    ("s4", "price_inversion", "S3", ["c5"], ["e5", "e6"]),
    # The same case seen from a party that is not answerable for it.
    ("s4", "price_inversion", "S4", ["c5"], ["e5", "e6"]),
]
ROLES = ["subject"] * 4 + ["participant"]


@pytest.fixture
def truth(tmp_path):
    pq.write_table(
        pa.table(
            {
                "scheme_id": [s[0] for s in SCHEMES],
                "detector": [s[1] for s in SCHEMES],
                "seller_id": [s[2] for s in SCHEMES],
                "role": ROLES,
                "codes": [s[3] for s in SCHEMES],
                "event_ids": [s[4] for s in SCHEMES],
                "first_time": pa.array([BEGIN] * 5, pa.timestamp("us")),
                "last_time": pa.array([BEGIN + dt.timedelta(days=1)] * 5, pa.timestamp("us")),
            }
        ),
        tmp_path / "schemes.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "kind": ["split_sale", "split_sale", "clearance"],
                "codes": [["b1"], ["b2"], ["b3"]],
                "event_ids": [["f1"], ["f2"], ["f3"]],
            }
        ),
        tmp_path / "benign.parquet",
    )
    pq.write_table(
        pa.table({"code": ["c1", "c2", "c3", "c4", "c5"]}), tmp_path / "touched_codes.parquet"
    )
    (tmp_path / "sellers.csv").write_text(
        "seller_id,guilty,schemes\nS1,true,s1\nS2,1,s2;s3\nS3,True,s4\nS4,false,\nS5,0,\n",
        encoding="utf-8",
    )
    return tmp_path


def found():
    return findings(
        [
            finding(1, "S1", "dead_code_use", codes=["c9", "c2"], code="c2"),
            # Right code, wrong detector: neither a hit of s2 nor a false alarm.
            finding(2, "S2", "repeated_transfer", codes=["c3"], code="c3"),
            # By event only, and naming another seller.
            finding(3, "S4", "price_inversion", codes=[], event_ids=["e6"]),
            # A benign twin is hit; a finding on an innocent code.
            finding(4, "S5", "price_inversion", codes=["b2"], code="b2"),
            finding(5, "S5", "repeated_transfer", code="x1"),
            # Data quality is no false alarm, whatever it touches.
            finding(6, "S5", "time_disorder", codes=["b1"], code="b1"),
        ]
    )


def result(truth):
    table = found()
    sellers = rank(
        table,
        exposure({f"S{i}": 100 for i in range(1, 6)}),
        detectors=DETECTORS,
    )
    return evaluate(table, sellers, truth, events=50_000)


def test_recall_by_planted_detector(truth):
    schemes = result(truth)["schemes"]
    assert (schemes["planted"], schemes["found"], schemes["recall"]) == (4, 2, 0.5)
    dead = schemes["by_detector"]["dead_code_use"]
    assert (dead["planted"], dead["found"], dead["recall"]) == (2, 1, 0.5)
    assert dead["missed"] == ["s2"]
    assert dead["seller_named"] == 1
    assert dead["median_delay_days"] == pytest.approx(2.0)
    price = schemes["by_detector"]["price_inversion"]
    assert (price["found"], price["missed"], price["seller_named"]) == (1, ["s3"], 0)
    assert schemes["lowest_recall"] == 0.5


def test_false_alarms_are_violations_that_touch_nothing_planted(truth):
    false = result(truth)["false_alarms"]
    assert false["count"] == 2
    assert false["per_100k_events"] == 4.0
    assert {name: entry["examples"] for name, entry in false["by_detector"].items()} == {
        "price_inversion": ["F0004"],
        "repeated_transfer": ["F0005"],
    }


def test_benign_twins_hit(truth):
    benign = result(truth)["benign"]
    assert (benign["planted"], benign["hit"]) == (3, 1)
    assert benign["by_kind"]["split_sale"] == {
        "planted": 2,
        "hit": 1,
        "by_detector": {"price_inversion": 1},
    }
    assert benign["by_kind"]["clearance"]["hit"] == 0


def test_load_by_family(truth):
    load = result(truth)["load"]
    assert load["by_family"]["data_quality"] == {"count": 1, "per_10k_events": 0.2}
    assert load["by_family"]["suspected_violation"]["count"] == 5
    assert load["per_10k_events"] == pytest.approx(1.2)


def test_ranking_measures(truth):
    sellers = pa.table({"rank": [2, 1, 3, 4], "enterprise_id": ["S4", "S1", "S2", "S5"]})
    ranking = evaluate(found(), sellers, truth, events=1)["ranking"]
    # Order S1, S4, S2, S5; guilty S1, S2 and S3, who is not ranked at all.
    assert ranking["k"] == 3
    assert ranking["precision_at_k"] == pytest.approx(2 / 3)
    assert ranking["recall_at_k"] == pytest.approx(2 / 3)
    assert ranking["average_precision"] == pytest.approx((1 + 2 / 3) / 3)
    assert ranking["guilty_unranked"] == 1
    assert ranking["innocent_in_top_k"] == ["S4"]
    assert ranking["guilty_below_k"] == ["S3"]
    assert ranking["lift_at_k"] == pytest.approx((2 / 3) / (3 / 4))


def test_result_is_json_and_reports_in_both_languages(truth):
    report = result(truth)
    assert json.loads(json.dumps(report)) == report
    english = format_report(report, "en")
    assert "Missed dead_code_use: s2" in english
    assert "False alarms" in english
    chinese = format_report(report, "zh")
    assert "前k精确率" in chinese
    assert "召回率" in chinese
    with pytest.raises(ValueError, match="expected zh or en"):
        format_report(report, "fr")


def test_columns_of_the_report_line_up_with_wide_characters(truth):
    lines = format_report(result(truth), "zh").split("\n\n")[0].splitlines()
    from trace_engine.ranking.report import width

    assert len({width(line) for line in lines[:4]}) == 1


def test_nothing_found_and_nothing_planted(tmp_path, truth):
    empty = findings()
    sellers = rank(empty, exposure({"S1": 5}), detectors=DETECTORS)
    report = evaluate(empty, sellers, truth, events=0)
    assert report["schemes"]["recall"] == 0.0
    assert report["false_alarms"]["per_100k_events"] == 0.0
    assert report["schemes"]["by_detector"]["dead_code_use"]["median_delay_days"] is None
    assert "dead_code_use" in format_report(report)


def test_whom_the_truth_does_not_judge_takes_no_place(truth):
    table = findings(
        [
            *(finding(i, "PLATFORM", "dead_code_use", code=f"c{i}") for i in range(1, 6)),
            finding(7, "S1", "dead_code_use", code="c1"),
        ]
    )
    sellers = rank(table, exposure({"PLATFORM": 100, "S1": 100, "S4": 100}), detectors=DETECTORS)
    assert sellers.column("enterprise_id")[0].as_py() == "PLATFORM"
    ranking = evaluate(table, sellers, truth, events=10)["ranking"]
    assert ranking["sellers"] == 2
    assert ranking["innocent_in_top_k"] == ["S4"]
    assert ranking["precision_at_k"] == pytest.approx(1 / 3)


def test_unusable_truth_is_one_line(tmp_path, truth):
    (truth / "benign.parquet").unlink()
    with pytest.raises(TruthError, match=r"benign.parquet: cannot be read") as caught:
        result(truth)
    assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"kind": ["x"]}), truth / "benign.parquet")
    with pytest.raises(TruthError, match="expected also codes, event_ids"):
        result(truth)
    (truth / "sellers.csv").write_text("seller_id\nS1\n", encoding="utf-8")
    with pytest.raises(TruthError, match=r"sellers.csv: cannot be read"):
        read_guilty(truth / "sellers.csv")


def test_delay_takes_the_earliest_finding(truth):
    table = findings(
        [
            finding(1, "S1", "dead_code_use", code="c1", event_time=time("2026-01-25")),
            finding(2, "S1", "dead_code_use", code="c2", event_time=time("2026-01-19")),
        ]
    )
    sellers = rank(table, exposure({"S1": 5}), detectors=DETECTORS)
    report = evaluate(table, sellers, truth, events=10)
    assert report["schemes"]["by_detector"]["dead_code_use"]["median_delay_days"] == 1.0

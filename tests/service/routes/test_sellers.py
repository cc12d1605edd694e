from __future__ import annotations

import math

import pytest

from tests.service.routes.answers import all_pages, fits, lines, problem, sheet
from tests.service.routes.conftest import Api
from tests.service.routes.worlds import finding
from trace_engine.service.routes.sellers import SellerDetail, SellersPage

LIST = "/v1/sellers"


@pytest.fixture
def ranked(api: Api) -> Api:
    for i in range(6):
        api.world.store(finding(i, subject_id=f"S{i % 3}", severity=0.2 + 0.3 * (i % 3)))
    api.world.store(finding(9, subject_id="X", subject_type="pharmacy", region="440103"))
    return api


def test_pages_are_the_ranking_in_its_order(ranked: Api) -> None:
    page = fits(SellersPage, ranked.get(LIST))
    table = ranked.world.ranking().table
    assert [row["enterprise_id"] for row in page["sellers"]] == table["enterprise_id"].to_pylist()
    assert page["total"] == table.num_rows == 13
    assert page["closed_through"] == "2026-03-31"
    assert all_pages(ranked.get, LIST, "sellers", limit=4) == page["sellers"]
    first = page["sellers"][0]
    assert math.isclose(sum(first["contributions"].values()), first["score"], abs_tol=1e-9)
    assert first["findings_by_detector"] == {"repeated_transfer": first["findings_violation"]}


@pytest.mark.parametrize(
    ("query", "expected"),
    [({"region": "44"}, {"X"}), ({"type": "pharmacy"}, {"X"}), ({"region": "11"}, set())],
)
def test_filters(ranked: Api, query: dict[str, str], expected: set[str]) -> None:
    page = ranked.get(LIST, params=query).json()
    assert {row["enterprise_id"] for row in page["sellers"]} == expected
    assert page["total"] == len(expected)


def test_tiers_part_the_ranking(ranked: Api) -> None:
    whole = ranked.get(LIST).json()["sellers"]
    for tier in "ABCD":
        rows = ranked.get(LIST, params={"tier": tier}).json()["sellers"]
        assert rows == [row for row in whole if row["tier"] == tier]
    both = ranked.get(LIST, params={"tier": ["A", "B"]}).json()["sellers"]
    assert both == [row for row in whole if row["tier"] in "AB"]


def test_an_etag_stands_for_one_ranking_and_one_question(ranked: Api) -> None:
    first = ranked.get(LIST)
    tag = first.headers["etag"]
    for named in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = ranked.get(LIST, headers={"If-None-Match": named})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ranked.get(LIST, headers={"If-None-Match": '"other"'}).status_code == 200
    assert ranked.get(LIST, params={"limit": 2}).headers["etag"] != tag
    assert ranked.get(LIST, headers={"Accept": "text/csv"}).headers["etag"] != tag
    ranked.world.ranked = None
    assert ranked.get(LIST, headers={"If-None-Match": tag}).status_code == 200


def test_a_ranking_made_anew_between_pages_is_told(ranked: Api) -> None:
    page = ranked.get(LIST, params={"limit": 2}).json()
    query = {"limit": 2, "cursor": page["next_cursor"]}
    assert not ranked.get(LIST, params=query).json()["ranking_changed"]
    ranked.world.ranked = None
    assert ranked.get(LIST, params=query).json()["ranking_changed"]


def test_other_forms(ranked: Api) -> None:
    rows = ranked.get(LIST).json()["sellers"]
    assert lines(ranked.get(LIST, headers={"Accept": "application/x-ndjson"})) == rows
    table = sheet(ranked.get(LIST, headers={"Accept": "text/csv"}))
    assert [row["enterprise_id"] for row in table] == [row["enterprise_id"] for row in rows]
    assert list(table[0]) == ranked.world.ranking().table.column_names


def test_one_seller_with_its_latest_findings(ranked: Api) -> None:
    detail = fits(SellerDetail, ranked.get(f"{LIST}/S1"))
    assert detail["seller"] in ranked.get(LIST).json()["sellers"]
    assert [row["finding_id"] for row in detail["findings"]] == ["f000004", "f000001"]
    assert ranked.noted("seller.read")["subject"] == "S1"
    few = ranked.get(f"{LIST}/S1", params={"findings": 1})
    assert len(few.json()["findings"]) == 1
    none = ranked.get(f"{LIST}/S1", params={"findings": 0})
    assert none.json()["findings"] == []


def test_a_new_finding_changes_the_etag_of_its_seller(ranked: Api) -> None:
    tag = ranked.get(f"{LIST}/S1").headers["etag"]
    assert ranked.get(f"{LIST}/S1", headers={"If-None-Match": tag}).status_code == 304
    ranked.world.store(finding(77, subject_id="S1"))
    assert ranked.get(f"{LIST}/S1", headers={"If-None-Match": tag}).status_code == 200


def test_an_unknown_seller_is_a_problem(ranked: Api) -> None:
    problem(ranked.get(f"{LIST}/nobody"), 404, "not-found")
    problem(ranked.get(f"{LIST}/a%00b"), 422, "invalid")
    problem(ranked.client.get(f"{LIST}/S1", headers=ranked.sender), 403, "forbidden")

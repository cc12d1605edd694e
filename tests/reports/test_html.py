from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from tests.reports.made import HOSTILE, MadeResult, finding, make
from trace_engine.events.findings import FINDINGS
from trace_engine.registry import Registry
from trace_engine.reports import html

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what a reader and a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def with_tag(self, name: str) -> Iterator[dict[str, str | None]]:
        return (attrs for tag, attrs in self.tags if tag == name)


@pytest.fixture(scope="module", params=["zh", "en"])
def page(request: pytest.FixtureRequest, made: MadeResult) -> Page:
    return Page(html.render(made, request.param, "2026.1"))


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    assert not list(page.with_tag("script"))
    for tag, attrs in page.tags:
        assert tag not in {"iframe", "object", "embed", "link", "img"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in {"href", "src", "action"}:
                assert str(value).startswith("#")


def test_hostile_names_are_text(made: MadeResult, page: Page) -> None:
    assert HOSTILE in page.text
    assert HOSTILE not in html.render(made, "zh")


def test_every_section_is_linked(page: Page) -> None:
    ids = {attrs["id"] for attrs in page.with_tag("section")}
    assert ids == {str(attrs["href"])[1:] for attrs in page.with_tag("a")}


def test_thirty_sellers_and_three_cases_are_shown(made: MadeResult, page: Page) -> None:
    rows = list(page.with_tag("tr"))
    assert len([a for a in page.with_tag("td") if a.get("class") == "score"]) == 30
    assert len(rows) > 30
    assert len([a for a in page.with_tag("div") if a.get("class") == "case"]) == 3


def test_score_bars_are_as_long_as_the_score(made: MadeResult) -> None:
    from trace_engine.reports.view import BAR_WIDTH, seller_rows

    for row in seller_rows(made.sellers, "zh"):
        drawn = sum(part.width for part in row.parts)
        assert drawn == pytest.approx(BAR_WIDTH * row.score, abs=1.0)


def test_english_page_has_no_chinese_but_in_data(made: MadeResult) -> None:
    def chinese(text: str) -> bool:
        return any("\u4e00" <= c <= "\u9fff" for c in text)

    bare = make(findings=0)
    names = pa.array([f"Seller {i}" for i in range(bare.sellers.num_rows)])
    position = bare.sellers.column_names.index("name")
    bare = replace(bare, sellers=bare.sellers.set_column(position, "name", names))
    text = Page(html.render(bare, "en")).text
    assert not chinese(text), [c for c in text if chinese(c)]


def test_chinese_page_has_english_beside_its_headings(made: MadeResult) -> None:
    text = Page(html.render(made, "zh")).text
    for heading in ("企业排名 Ranking of sellers", "地区分布 By province", "典型案例 Worked cases"):
        assert heading in text


def test_page_without_findings_or_sellers(made: MadeResult) -> None:
    empty = replace(
        make(findings=0),
        sellers=made.sellers.slice(0, 0),
        exposure=made.exposure.slice(0, 0),
        rejects=made.rejects.slice(0, 0),
        inputs=[],
        counts={"rows": 0, "events": 0, "duplicates": 0, "rejects": 0},
        coverage={},
    )
    text = Page(html.render(empty, "en")).text
    assert "No seller to rank." in text
    assert "No case to show." in text


def test_evidence_of_other_shapes_does_not_stop_the_report(made: MadeResult) -> None:
    odd = ["", "not json", "[]", '{"path": 5}', '{"path": [1, {}]}', '{"path": [{"time": null}]}']
    rows = [finding(n, "duplicate_sale", n, evidence=text) for n, text in enumerate(odd)]
    result = replace(made, findings=pa.Table.from_pylist(rows, FINDINGS))
    assert "Worked cases" in Page(html.render(result, "en")).text


def test_unknown_detectors_regions_and_types_are_shown_as_they_are(made: MadeResult) -> None:
    rows = [
        finding(1, "duplicate_sale", 1, detector="plug_in", title_en="From a plug-in"),
        finding(2, "duplicate_sale", 2, region="99"),
        finding(3, "duplicate_sale", 3, region=None, amount=None, code=None, codes=None),
    ]
    result = replace(made, findings=pa.Table.from_pylist(rows, FINDINGS))
    assert "From a plug-in" in Page(html.render(result, "en")).text


def test_page_is_small(made: MadeResult) -> None:
    assert len(html.render(make(findings=3000, sellers=400), "zh").encode()) < 500_000


def test_another_language_is_refused(made: MadeResult) -> None:
    with pytest.raises(ValueError, match="'fr'"):
        html.render(made, "fr")


def test_wrong_entries_of_the_registry_are_counted_and_the_first_shown(made: MadeResult) -> None:
    wrong = pa.table(
        {
            "enterprise_id": [f"X{n}" for n in range(12)],
            "type": ["wholesaler"] * 12,
            "region": ["999999"] * 12,
        }
    )
    registry = Registry({"enterprises": wrong})
    assert len(registry.problems) == 12
    result = replace(made, registry=registry)
    for lang, title, rest in (
        ("zh", "登记数据问题", "另有 4 处"),
        ("en", "registry · 12", "4 more"),
    ):
        text = Page(html.render(result, lang, "2026.1")).text
        shown = [p.zh if lang == "zh" else str(p) for p in registry.problems]
        assert title in text
        assert rest in text
        assert [line in text for line in shown] == [True] * 8 + [False] * 4
    assert "登记数据问题" not in Page(html.render(made, "zh", "2026.1")).text


def test_alert_load_stands_beside_each_family(made: MadeResult) -> None:
    families = made.findings.column("family").to_pylist()
    text = Page(html.render(made, "en", "2026.1")).text
    for name, title in (
        ("suspected_violation", "Suspected violation"),
        ("data_quality", "Data quality"),
    ):
        load = 10_000 * families.count(name) / made.counts["events"]
        assert f"{title} · {families.count(name):,} {load:.2f}/10k" in text

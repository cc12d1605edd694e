"""The small graph of a finding: laid out inside its frame, told as text, whatever the edges are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trace_engine.reports import network


def edge(source: str, target: str, packs: int = 5, **more: Any) -> dict[str, Any]:
    return {
        "source": source, "target": target, "source_name": f"公司{source}",
        "target_name": f"公司{target}" if target else "", "source_region": "370100",
        "target_region": "440100", "packs": packs, "events": packs, "first": "2026-03-01",
        "last": "2026-03-04", **more,
    }  # fmt: skip


RING = [edge("A", "B"), edge("B", "C", 20), edge("C", "A", 10)]


def test_a_ring_is_drawn_with_its_subject_first() -> None:
    drawn = network.build(RING, "B", "zh")
    assert [node.key for node in drawn.nodes] == ["B", "A", "C"]
    assert [node.subject for node in drawn.nodes] == [True, False, False]
    assert [(a.source, a.target) for a in drawn.arrows] == [(1, 0), (0, 2), (2, 1)]
    assert drawn.arrows[1].width == max(a.width for a in drawn.arrows)
    assert all(a.crosses for a in drawn.arrows)
    assert drawn.arrows[0].label == "5盒 · 03-01"


def test_there_and_back_do_not_lie_on_one_another() -> None:
    there, back = network.build([edge("A", "B"), edge("B", "A")], "", "en").arrows
    assert abs(there.y - back.y) > 20 or abs(there.x - back.x) > 20


def test_persons_are_one_node() -> None:
    drawn = network.build([edge("A", ""), edge("B", "")], "A", "zh")
    assert [node.name for node in drawn.nodes] == ["公司A", "消费者/患者", "公司B"]


def test_text_says_the_same() -> None:
    lines = network.as_text(network.build(RING, "A", "en"), "en")
    assert lines[0].startswith("▶ A  公司A [A] (Shandong")
    assert "  A ──▶ B  5 packs · 03-01 · crosses province" in lines
    many = [edge(f"X{i}", "A") for i in range(30)]
    assert network.as_text(network.build(many, "A", "zh"), "zh")[-1].strip() == "… 略去 15 条"


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["source", "target", "first", "source_region", "source_name"]),
            st.none() | st.text(max_size=6),
        ),
        max_size=40,
    )
)
def test_any_flow_can_be_drawn(flow: list[dict[str, Any]]) -> None:
    for i, some in enumerate(flow):
        some["packs"] = (None, -3, 10**9, "7")[i % 4]
    drawn = network.build(flow, "x", "zh")
    for node in drawn.nodes:
        assert 0 < node.x < drawn.width
        assert 0 < node.y < drawn.height
    assert len(drawn.arrows) + drawn.omitted == len(flow)
    assert network.as_text(drawn)

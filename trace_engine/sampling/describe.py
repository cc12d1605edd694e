"""How a sample is taken and why, in the words of a sampling sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_engine.events.findings import UNITS_ZH
from trace_engine.sampling.parameters import SamplingParameters
from trace_engine.sampling.targets import HOSPITAL, ONLINE

ONLINE_PURCHASE, MYSTERY_BUYER, ON_SITE = "online_purchase", "mystery_buyer", "on_site"
METHOD_ZH = {ONLINE_PURCHASE: "网络购样", MYSTERY_BUYER: "神秘买家", ON_SITE: "现场抽样"}
METHOD_EN = {
    ONLINE_PURCHASE: "online purchase",
    MYSTERY_BUYER: "mystery buyer",
    ON_SITE: "on-site sampling",
}
# They sell to licensed enterprises only: nobody can buy from them unannounced.
WITHOUT_COUNTER = ("mah", "manufacturer", "wholesaler", "chain_hq", "logistics")
TOLD = 3  # findings in a line's reason


def method(channel: str, seller_type: str | None, conduct: bool) -> str:
    """Return how to sample; ``conduct``: the evidence is about how goods are sold."""
    if channel == HOSPITAL or seller_type in WITHOUT_COUNTER:
        return ON_SITE
    if conduct:
        return MYSTERY_BUYER
    return ONLINE_PURCHASE if channel == ONLINE else ON_SITE


def quantity(how: str, parameters: SamplingParameters) -> int:
    """Return how many packs to take."""
    if how == ONLINE_PURCHASE:
        return parameters.quantity_online
    if how == MYSTERY_BUYER:
        return parameters.quantity_mystery_buyer
    return parameters.quantity_on_site


def most_telling(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return up to :data:`TOLD` of ``findings`` (strongest first), of different detectors if can be.

    Three findings of one rule say little more than one; what else was found says more.
    """
    seen: set[str] = set()
    first: list[Mapping[str, Any]] = []
    later: list[Mapping[str, Any]] = []
    for finding in findings:
        (later if finding["detector"] in seen else first).append(finding)
        seen.add(finding["detector"])
    return (first + later)[:TOLD]


def _value(number: float | None, unit: str) -> str:
    """Return a number as a sheet shows it, with its unit: ``24.4天``, ``1680 km/h``, ``0.001``."""
    if number is None:
        return "-"
    if 0 < abs(number) < 0.1:
        return f"{number:.2g}{unit.rstrip()}"
    return f"{round(number, 2 if abs(number) < 1000 else 0):.9g}{unit.rstrip()}"


def _unit_zh(finding: Mapping[str, Any]) -> str:
    unit = finding.get("unit") or ""
    return UNITS_ZH.get(unit, unit)


def risk_reason(
    score: float, tier: str, findings: Sequence[Mapping[str, Any]], total: int
) -> tuple[str, str]:
    """Return why a target was chosen, in Chinese and English, naming its strongest findings."""
    parts_zh = [
        f"{f['title_zh'] or f['detector']}"
        f"（观测值{_value(f['observed'], _unit_zh(f))}，"
        f"阈值{_value(f['threshold'], _unit_zh(f))}，"
        f"涉及{f['code_count'] or 0}个追溯码，线索{f['finding_id']}）"
        for f in findings
    ]
    parts_en = [
        f"{f['title_en'] or f['detector']} "
        f"(observed {_value(f['observed'], ' ' + (f.get('unit') or ''))}, "
        f"threshold {_value(f['threshold'], ' ' + (f.get('unit') or ''))}, "
        f"{f['code_count'] or 0} code(s), finding {f['finding_id']})"
        for f in findings
    ]
    zh = f"风险得分{score:.3f}（{tier}级），本品种相关线索{total}条：" + "；".join(parts_zh)
    en = f"score {score:.3f} (tier {tier}), {total} finding(s) here: " + "; ".join(parts_en)
    return zh, en


def random_reason(probability: float) -> tuple[str, str]:
    """Return the reason of a line of the random arm. It names no finding: it must stay blind."""
    zh = (
        f"随机抽样：按企业类型与省份分层等距抽取，入样概率{probability:.6f}；"
        "不指定品种，由抽样人员现场随机选取在售药品"
    )
    en = (
        "random: systematic draw ordered by type and province, inclusion probability "
        f"{probability:.6f}; the officer picks any drug on sale at random"
    )
    return zh, en

"""The three strongest reasons of a seller's score, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trace_engine.ranking.evidence import Int64, Pairs

FAMILY_ZH: dict[str, str] = {
    "custody": "流转",
    "code": "追溯码",
    "region": "区域",
    "price": "价格",
    "quantity": "数量",
    "category": "品类",
    "licence": "资质",
    "scanning": "扫码",
    "network": "关联网络",
    "other": "其他规则",
    "data_quality": "数据质量",
    "history": "检查历史",
    "baseline": "基础风险",
}
FAMILY_EN: dict[str, str] = {
    **{name: name.replace("_", " ") for name in FAMILY_ZH},
    "scanning": "scanning behaviour",
    "licence": "licence and identity",
    "history": "past inspections",
    "baseline": "base rate",
}
REASONS = 3


def expected_text(value: float) -> str:
    """Return an expected count with as many digits as it deserves, at most two decimals."""
    if value >= 10 or value <= 0:
        return f"{max(value, 0.0):.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2f}" if value >= 0.01 else "<0.01"


def write_reasons(
    contributions: Mapping[str, npt.NDArray[np.float64]],
    pairs: Pairs,
    pair_family: Sequence[str],
    titles: Sequence[tuple[str, str]],
    past_violations: npt.NDArray[np.int64],
) -> tuple[list[str], list[str]]:
    """Return the reasons of every seller in Chinese and in English.

    ``contributions`` maps each family to an array of shape ``(sellers,)``; ``pair_family`` names
    the family of each pair, ``titles`` the Chinese and English title of each detector.
    """
    sellers = len(past_violations)
    zh = ["无发现，仅计基础风险"] * sellers
    en = ["no findings: base rate only"] * sellers
    seller, family, value, lead, size = _entries(contributions, pairs, pair_family, past_violations)
    # Strongest first within each seller; the first three are told.
    order = np.lexsort((family, -value, seller))
    told = seller[order]
    starts = np.flatnonzero(np.diff(told, prepend=-1))
    position = np.arange(len(told)) - np.repeat(starts, np.diff(np.append(starts, len(told))))
    order = order[position < REASONS]
    names = list(contributions)
    said: dict[int, tuple[list[str], list[str]]] = {}
    columns = (seller[order], family[order], value[order], lead[order], size[order])
    for who, which, share, row, rules in zip(*(c.tolist() for c in columns), strict=True):
        if row < 0:
            number = int(past_violations[who])
            detail_zh, detail_en = f"既往检查违规{number}次", f"{number} past violation(s)"
        else:
            title_zh, title_en = titles[pairs.detector[row]]
            count, usual = pairs.count[row], expected_text(pairs.expected_count[row])
            usual_zh = usual.replace("<", "不足")
            detail_zh = f"{title_zh}{count}条（同等业务量预期{usual_zh}条）"
            detail_en = f"{title_en}: {count} (expected for its volume: {usual})"
            if rules > 1:
                detail_zh += f"等{rules}类"
                detail_en += f" and {rules - 1} more rule(s)"
        parts_zh, parts_en = said.setdefault(who, ([], []))
        parts_zh.append(f"{FAMILY_ZH[names[which]]}：{detail_zh}，得分贡献{share:.2f}")
        parts_en.append(f"{FAMILY_EN[names[which]]}, {share:.2f} of the score: {detail_en}")
    for who, (parts_zh, parts_en) in said.items():
        zh[who], en[who] = "；".join(parts_zh), "; ".join(parts_en)
    return zh, en


def _entries(
    contributions: Mapping[str, npt.NDArray[np.float64]],
    pairs: Pairs,
    pair_family: Sequence[str],
    past_violations: npt.NDArray[np.int64],
) -> tuple[Int64, Int64, npt.NDArray[np.float64], Int64, Int64]:
    """Return seller, family, contribution, leading pair (-1: history) and rules of every reason."""
    index = {name: i for i, name in enumerate(contributions)}
    pair_index = np.array([index[name] for name in pair_family], np.int64)
    # The leading rule of a family is its strongest; of equals, the first in the catalogue.
    order = np.lexsort((pairs.detector, -pairs.evidence, pair_index, pairs.seller))
    group = pairs.seller[order] * len(index) + pair_index[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    lead = order[starts]
    size = np.diff(np.append(starts, len(order)))
    who, family = pairs.seller[lead], pair_index[lead]
    matrix = np.stack(list(contributions.values()))
    past = np.flatnonzero(past_violations)
    who = np.concatenate((who, past))
    family = np.concatenate((family, np.full(len(past), index["history"])))
    value = matrix[family, who]
    lead = np.concatenate((lead.astype(np.int64), np.full(len(past), -1, np.int64)))
    size = np.concatenate((size.astype(np.int64), np.zeros(len(past), np.int64)))
    told = value > 0
    return who[told], family[told], value[told], lead[told], size[told]

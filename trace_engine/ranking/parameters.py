"""What the policy may set of the ranking: section ``[ranking]`` of a policy file.

The defaults here equal the default policy's values. None of them is published by an authority;
each is proposed, with its reason in ``docs/ranking.md``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

# Sales to persons give these detectors their opportunities, so packs sold measure exposure.
SALE_DETECTORS = (
    "duplicate_sale",
    "quota_per_sale",
    "quota_rolling",
    "recalled_sale",
    "no_prescription",
)


def _sales_exposure() -> dict[str, str]:
    """Return the exposure column of every detector whose column is not ``default_exposure``."""
    return dict.fromkeys(SALE_DETECTORS, "packs_sold")


class RankingParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of :func:`trace_engine.ranking.rank`. Evidence is counted in nats."""

    base_rate: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            lt=0.5,
            description="share of sellers taken to violate before any evidence",
            extra_json_schema={"unit": "share", "zh": "无任何证据时的违规基础率"},
        ),
    ] = 0.01
    certainty: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            lt=1,
            description="probability that a finding of severity 1 is right",
            extra_json_schema={"unit": "probability", "zh": "严重度为 1 的发现属实的概率"},
        ),
    ] = 0.95
    volume_weight: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=5,
            description="extra weight of a finding for each factor of ten in its code count",
            extra_json_schema={"unit": "per decade", "zh": "发现涉及追溯码数每增十倍的加权"},
        ),
    ] = 0.5
    prior_evidence: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            le=100,
            description="shape of the gamma prior: evidence that must come before it is believed",
            extra_json_schema={"unit": "nats", "zh": "伽马先验形状：证据达到此量才被采信"},
        ),
    ] = 1.0
    ordinary_ratio: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=100,
            description="up to so many times the market's rate is ordinary difference between "
            "honest sellers; who shows more is left out of that rate",
            extra_json_schema={"unit": "ratio", "zh": "市场基准率的此倍数以内视为正常差异"},
        ),
    ] = 3.0
    outlier_allowance: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=100,
            description="evidence of one detector that anyone may show and still count as benign",
            extra_json_schema={"unit": "nats", "zh": "计入基准率时容许的零星证据量"},
        ),
    ] = 2.0
    specific_severity: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            lt=1,
            description="above this severity a finding has ever less of a benign cause; "
            "at severity 1 exposure excuses nothing",
            extra_json_schema={"unit": "severity", "zh": "高于此严重度的发现逐渐不可由业务量解释"},
        ),
    ] = 0.8
    overlap: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=1,
            description="how much a family's other detectors count beside its strongest one",
            extra_json_schema={"unit": "share", "zh": "同类证据中次要规则的计入比例"},
        ),
    ] = 0.3
    family_cap: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            le=20,
            description="evidence that one family can reach at most",
            extra_json_schema={"unit": "nats", "zh": "单一证据类别的上限"},
        ),
    ] = 4.0
    data_quality_cap: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=5,
            description="evidence that all data-quality findings together can reach at most",
            extra_json_schema={"unit": "nats", "zh": "数据质量类发现合计上限"},
        ),
    ] = 0.2
    history_weight: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=5,
            description="evidence of one earlier inspection that found a violation",
            extra_json_schema={"unit": "nats", "zh": "既往检查发现一次违规的证据量"},
        ),
    ] = 0.1
    history_cap: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=5,
            description="evidence that earlier inspections together can reach at most",
            extra_json_schema={"unit": "nats", "zh": "既往检查证据上限"},
        ),
    ] = 0.3
    history_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=36_500,
            description="how long an inspection's outcome counts",
            extra_json_schema={"unit": "days", "zh": "既往检查结果的有效期"},
        ),
    ] = 1096
    tier_b: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            lt=1,
            description="score from which a seller is of tier B (general risk)",
            extra_json_schema={"unit": "score", "zh": "B 级（一般风险）起点"},
        ),
    ] = 0.2
    tier_c: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            lt=1,
            description="score from which a seller is of tier C (raised risk)",
            extra_json_schema={"unit": "score", "zh": "C 级（较高风险）起点"},
        ),
    ] = 0.5
    tier_d: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            lt=1,
            description="score from which a seller is of tier D (high risk)",
            extra_json_schema={"unit": "score", "zh": "D 级（高风险）起点"},
        ),
    ] = 0.8
    default_exposure: Annotated[
        str,
        msgspec.Meta(
            description="exposure column that counts a detector's opportunities",
            extra_json_schema={"unit": "column", "zh": "默认的业务量列"},
        ),
    ] = "events"
    exposure: Annotated[
        dict[str, str],
        msgspec.Meta(
            description="exposure column of detectors that another column fits better",
            extra_json_schema={"unit": "column", "zh": "各规则另用的业务量列"},
        ),
    ] = msgspec.field(default_factory=_sales_exposure)

    def __post_init__(self) -> None:
        """Refuse tiers that are out of order and exposure columns that do not exist."""
        if not self.tier_b <= self.tier_c <= self.tier_d:
            raise ValueError(
                "tier_b <= tier_c <= tier_d is required, found "
                f"{self.tier_b}, {self.tier_c}, {self.tier_d}"
            )
        for detector, column in {"default": self.default_exposure, **self.exposure}.items():
            if column not in EXPOSURE_COLUMNS:
                raise ValueError(
                    f"exposure of {detector}: {column!r} is none of {', '.join(EXPOSURE_COLUMNS)}"
                )


EXPOSURE_COLUMNS = (
    "events",
    "packs_received",
    "packs_shipped",
    "packs_sold",
    "packs_sold_online",
)

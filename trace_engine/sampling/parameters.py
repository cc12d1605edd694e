"""What the policy may set of the sampling plan: section ``[sampling]`` of a policy file.

The defaults here equal the default policy's values. None of them is published by an authority;
each is proposed, with its reason in ``docs/sampling.md``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec


class SamplingParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of :func:`trace_engine.sampling.plan`."""

    random_share: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=1,
            description="share of the budget drawn at random over all sellers",
            extra_json_schema={"unit": "share", "zh": "随机抽样占预算的比例"},
        ),
    ] = 0.2
    jurisdiction_share: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            le=1,
            description="share of the risk arm that one province may take while others have "
            "targets left",
            extra_json_schema={"unit": "share", "zh": "单一省份占风险抽样的上限比例"},
        ),
    ] = 0.3
    jurisdiction_capacity: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=1_000_000,
            description="samples of the risk arm that one province can take at all; 0: no limit",
            extra_json_schema={"unit": "samples", "zh": "单一省份风险抽样的承受能力，0 为不限"},
        ),
    ] = 0
    repeat_discount: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            lt=1,
            description="worth of each further sample at one seller, against the one before",
            extra_json_schema={"unit": "share", "zh": "同一企业每多抽一批的价值折扣"},
        ),
    ] = 0.5
    maximum_per_seller: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="samples of the risk arm at one seller",
            extra_json_schema={"unit": "samples", "zh": "同一企业风险抽样上限"},
        ),
    ] = 3
    cool_down_days: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=3650,
            description="after an inspection, how long only newer findings lead to a sample",
            extra_json_schema={"unit": "days", "zh": "检查后的冷却期，期内仅新发现可再次触发"},
        ),
    ] = 90
    due_working_days: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=250,
            description="working days to take the sample, the plan's day not counted",
            extra_json_schema={"unit": "working days", "zh": "完成抽样的工作日数"},
        ),
    ] = 10
    codes_to_look_for: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=100,
            description="trace codes named on a line of the plan",
            extra_json_schema={"unit": "codes", "zh": "每行列出的追溯码数"},
        ),
    ] = 5
    quantity_online: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="packs to buy online",
            extra_json_schema={"unit": "packs", "zh": "网络购样数量"},
        ),
    ] = 3
    quantity_mystery_buyer: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="packs a mystery buyer asks for; above the limit of 2 of ephedrine "
            "compounds, so that keeping the limit is tested",
            extra_json_schema={"unit": "packs", "zh": "神秘买家求购数量"},
        ),
    ] = 3
    quantity_on_site: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="packs taken on site: test, repeat test and retained sample",
            extra_json_schema={"unit": "packs", "zh": "现场抽样数量（检验、复检、留样）"},
        ),
    ] = 6
    conduct_families: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="evidence families about how goods are sold: a mystery buyer sees more",
            extra_json_schema={"unit": "families", "zh": "宜由神秘买家核查的证据类别"},
        ),
    ] = ("category", "quantity")

"""Who must act on whom."""

from __future__ import annotations

import pytest

from trace_engine.registry.jurisdiction import PROVINCES_EN, responsible_bureau
from trace_engine.registry.regions import load_regions
from trace_engine.registry.types import EnterpriseType


@pytest.mark.parametrize(
    ("kind", "region", "bureau"),
    [
        (EnterpriseType.WHOLESALER, "370102", "山东省药品监督管理局"),
        (EnterpriseType.MAH, "110108", "北京市药品监督管理局"),
        (EnterpriseType.CHAIN_HQ, "450102", "广西壮族自治区药品监督管理局"),
        (EnterpriseType.PLATFORM, "330106", "浙江省药品监督管理局"),
        (EnterpriseType.PHARMACY, "370102", "济南市历下区市场监督管理局"),
        (EnterpriseType.CHAIN_STORE, "110108", "北京市海淀区市场监督管理局"),
        (EnterpriseType.PHARMACY, "429004", "仙桃市市场监督管理局"),
        (EnterpriseType.UNKNOWN, "370000", "山东省市场监督管理局"),
        (
            EnterpriseType.PUBLIC_HOSPITAL,
            "370102",
            "济南市历下区卫生健康委员会会同济南市历下区市场监督管理局",
        ),
    ],
)
def test_routing(kind: EnterpriseType, region: str, bureau: str) -> None:
    assert responsible_bureau(kind, region) == bureau


def test_unknown_place_says_so() -> None:
    assert "备案地" in responsible_bureau(EnterpriseType.PHARMACY, "")
    assert "filing" in responsible_bureau(EnterpriseType.PHARMACY, "990000", "en")


def test_english() -> None:
    assert responsible_bureau(EnterpriseType.WHOLESALER, "370102", "en") == (
        "Shandong Medical Products Administration"
    )
    assert "历下区" in responsible_bureau(EnterpriseType.PHARMACY, "370102", "en")
    assert {f"{p}" for p in PROVINCES_EN} == set(load_regions().province_names)

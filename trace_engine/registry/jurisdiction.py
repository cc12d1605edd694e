"""Which authority must act on an enterprise, by its type and registered region.

Routing after 药品网络销售监督管理办法 articles 4 and 15: platforms, authorisation holders, makers
and wholesalers (and chain headquarters with them) answer to the provincial drug administration;
pharmacies to the market regulator of their county; for tracing problems of medical institutions
the health commission acts with it.
"""

from __future__ import annotations

from typing import Literal

from trace_engine.registry.regions import MUNICIPALITIES, Regions, load_regions
from trace_engine.registry.types import MEDICAL_TYPES, RETAIL_TYPES, EnterpriseType

Language = Literal["zh", "en"]

PROVINCES_EN: dict[int, str] = {
    11: "Beijing", 12: "Tianjin", 13: "Hebei", 14: "Shanxi", 15: "Inner Mongolia", 21: "Liaoning",
    22: "Jilin", 23: "Heilongjiang", 31: "Shanghai", 32: "Jiangsu", 33: "Zhejiang", 34: "Anhui",
    35: "Fujian", 36: "Jiangxi", 37: "Shandong", 41: "Henan", 42: "Hubei", 43: "Hunan",
    44: "Guangdong", 45: "Guangxi", 46: "Hainan", 50: "Chongqing", 51: "Sichuan", 52: "Guizhou",
    53: "Yunnan", 54: "Tibet", 61: "Shaanxi", 62: "Gansu", 63: "Qinghai", 64: "Ningxia",
    65: "Xinjiang", 71: "Taiwan", 81: "Hong Kong", 82: "Macao",
}  # fmt: skip
"""English names of provinces by two digits."""


def responsible_bureau(kind: EnterpriseType | int, region_code: str, lang: Language = "zh") -> str:
    """Return the authority, such as ``山东省药品监督管理局``.

    ``region_code`` is the registered region (GB/T 2260); unknown or empty gives a sentence that the
    seller's place of filing must be found first. An enterprise of unknown type is routed to its
    county's market regulator, which takes in what concerns others.
    """
    regions = load_regions()
    index = regions.index(region_code) if region_code else -1
    if index < 0:
        if lang == "zh":
            return "住所地不明：先查明备案地或注册地，再移送当地药品监督管理部门"
        return "place unknown: find its place of filing or registration, then transfer there"
    kind = EnterpriseType(kind)
    if kind in MEDICAL_TYPES:
        return _medical(regions, index, lang)
    if kind in RETAIL_TYPES or kind == EnterpriseType.UNKNOWN:
        return _market_regulator(regions, index, lang)
    province = regions.province_names[f"{regions.province[index]:02d}"]
    if lang == "zh":
        return f"{province}药品监督管理局"
    return f"{PROVINCES_EN[int(regions.province[index])]} Medical Products Administration"


def _place(regions: Regions, index: int) -> str:
    """City and county name without the province, as bureaus are styled."""
    full = regions.full_names_zh[index]
    province = regions.province_names[f"{regions.province[index]:02d}"]
    if f"{regions.province[index]:02d}" in MUNICIPALITIES:
        return full
    return full.removeprefix(province) or full


def _market_regulator(regions: Regions, index: int, lang: Language) -> str:
    place = _place(regions, index)
    if lang == "zh":
        return f"{place}市场监督管理局"
    return f"Administration for Market Regulation of {place}"


def _medical(regions: Regions, index: int, lang: Language) -> str:
    place = _place(regions, index)
    if lang == "zh":
        return f"{place}卫生健康委员会会同{place}市场监督管理局"
    return f"Health Commission with the Administration for Market Regulation of {place}"

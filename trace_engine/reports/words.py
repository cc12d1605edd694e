"""Words of the report in Chinese and English: types, tiers, evidence families, provinces."""

from __future__ import annotations

from typing import NamedTuple

from trace_engine.events.findings import UNITS_ZH


class Word(NamedTuple):
    """One term in both languages."""

    zh: str
    en: str

    def in_(self, lang: str) -> str:
        """Return the term in ``lang``."""
        return self.en if lang == "en" else self.zh


FAMILIES: dict[str, Word] = {
    "suspected_violation": Word("疑似违规", "Suspected violation"),
    "data_quality": Word("数据质量", "Data quality"),
}

EVIDENCE: dict[str, Word] = {
    "custody": Word("流转", "Custody"),
    "code": Word("追溯码", "Code state"),
    "region": Word("区域", "Region"),
    "price": Word("价格", "Price"),
    "quantity": Word("数量", "Quantity"),
    "category": Word("品类", "Category"),
    "licence": Word("资质", "Licence"),
    "scanning": Word("扫码行为", "Scanning"),
    "network": Word("关系网络", "Network"),
    "other": Word("其他规则", "Other rules"),
    "data_quality": Word("数据质量", "Data quality"),
    "history": Word("检查历史", "Past inspections"),
    "baseline": Word("基础风险", "Base rate"),
}

EVIDENCE_COLOURS: dict[str, str] = {
    "custody": "#2f5d8c",
    "code": "#7a4b9a",
    "region": "#2a8f85",
    "price": "#d08c2a",
    "quantity": "#8c6d31",
    "category": "#b5446e",
    "licence": "#5b7f2b",
    "scanning": "#6a7b8c",
    "network": "#1d7a9c",
    "other": "#9aa7b3",
    "data_quality": "#7fa3ad",
    "history": "#4b4b4b",
    "baseline": "#b9c3cc",
}
OTHER_COLOUR = "#9aa7b3"

ENTERPRISE_TYPES: dict[str, Word] = {
    "mah": Word("上市许可持有人", "MA holder"),
    "manufacturer": Word("生产企业", "Manufacturer"),
    "wholesaler": Word("批发企业", "Wholesaler"),
    "chain_hq": Word("连锁总部", "Chain head office"),
    "chain_store": Word("连锁门店", "Chain store"),
    "pharmacy": Word("单体药店", "Pharmacy"),
    "medical": Word("医疗机构", "Medical institution"),
    "public_hospital": Word("公立医院", "Public hospital"),
    "platform": Word("网络平台", "Platform"),
    "logistics": Word("物流企业", "Logistics"),
}

TIERS: dict[str, Word] = {
    "D": Word("高风险", "high"),
    "C": Word("较高风险", "raised"),
    "B": Word("一般风险", "general"),
    "A": Word("低风险", "low"),
}

SKIP_REASONS: dict[str, Word] = {
    "no_registry": Word("没有登记数据", "no registry"),
    "no_drug": Word("品种不明", "drug unknown"),
    "unknown_drug": Word("品种未登记", "drug not in the registry"),
    "no_identifier": Word("码中没有品种标识", "no identifier in the code"),
    "no_batch_no": Word("没有批号", "no batch number"),
    "no_region": Word("地区不明", "region unknown"),
    "no_region_stated": Word("未填地区", "no region stated"),
    "unknown_seller": Word("企业未登记", "seller not in the registry"),
    "no_giver": Word("没有发货方", "no giver"),
    "no_price": Word("没有价格", "no price"),
    "no_record_time": Word("没有上传时间", "no upload time"),
    "no_buyer": Word("没有购买人", "no buyer"),
    "no_expiry": Word("没有有效期", "no expiry date"),
    "type_unknown": Word("单据类型无法识别", "event type unknown"),
    "before_recorded_history": Word("数据起点之前的来源不明", "began before the data"),
    "look_up": Word("仅为查询", "look-ups"),
    "gift": Word("赠品", "gifts"),
    "date_only": Word("只有日期", "a date only"),
    "no_doctor": Word("没有医师", "no doctor"),
    "no_pharmacist": Word("没有药师", "no pharmacist"),
    "no_temperature": Word("没有温度", "no temperature"),
    "implausible_reading": Word("温度不合理", "impossible temperature"),
    "frozen": Word("冷冻品种", "kept frozen"),
    "no_link": Word("没有联系方式、地址、设备", "no contact, address or device"),
    "split_sale": Word("拆零", "split sales"),
    "near_expiry": Word("近效期", "near expiry"),
}

REJECT_REASONS: dict[str, Word] = {
    "missing_code": Word("缺追溯码", "trace code missing"),
    "missing_type": Word("缺单据类型", "event type missing"),
    "missing_actor": Word("缺操作企业", "actor missing"),
    "event_id_conflict": Word("同一事件标识、内容不同", "same event id, other content"),
    "line_too_long": Word("行过长", "line too long"),
    "undecodable": Word("编码无法识别", "neither UTF-8 nor GB18030"),
    "unbalanced_quote": Word("引号不成对", "quote not closed"),
    "not_utf8": Word("不是 UTF-8 文本", "not UTF-8 text"),
    "negative_price": Word("单价为负", "negative price"),
    "absurd_price": Word("单价超出合理范围", "price beyond reason"),
}

# Reasons made of a column's name: ``bad_event_time``.
REJECT_KINDS: dict[str, Word] = {
    "missing_": Word("缺{}", "{} missing"),
    "bad_": Word("{}无法识别", "{} unreadable"),
    "absurd_": Word("{}超出合理范围", "{} beyond reason"),
}

# What detectors count in: as units of observed value and threshold stand in findings.
UNITS: dict[str, Word] = {
    **{en: Word(zh, en) for en, zh in UNITS_ZH.items()},
    "crossings": Word(UNITS_ZH["crossings"], "province crossings"),
}


class Province(NamedTuple):
    """One tile of the province chart: GB/T 2260 first two digits, names, place on the grid."""

    digits: str
    zh: str
    en: str
    column: int
    row: int


# Each province-level region is one tile of equal size, placed so that neighbours stay near each
# other. A chart of counts, not a map: it draws no boundary.
PROVINCES: tuple[Province, ...] = (
    Province("23", "黑龙江", "Heilongjiang", 6, 0),
    Province("15", "内蒙古", "Inner Mongolia", 4, 1),
    Province("22", "吉林", "Jilin", 6, 1),
    Province("65", "新疆", "Xinjiang", 0, 2),
    Province("62", "甘肃", "Gansu", 1, 2),
    Province("64", "宁夏", "Ningxia", 2, 2),
    Province("14", "山西", "Shanxi", 3, 2),
    Province("11", "北京", "Beijing", 4, 2),
    Province("12", "天津", "Tianjin", 5, 2),
    Province("21", "辽宁", "Liaoning", 6, 2),
    Province("54", "西藏", "Tibet", 0, 3),
    Province("63", "青海", "Qinghai", 1, 3),
    Province("61", "陕西", "Shaanxi", 2, 3),
    Province("41", "河南", "Henan", 3, 3),
    Province("13", "河北", "Hebei", 4, 3),
    Province("37", "山东", "Shandong", 5, 3),
    Province("51", "四川", "Sichuan", 1, 4),
    Province("50", "重庆", "Chongqing", 2, 4),
    Province("42", "湖北", "Hubei", 3, 4),
    Province("34", "安徽", "Anhui", 4, 4),
    Province("32", "江苏", "Jiangsu", 5, 4),
    Province("31", "上海", "Shanghai", 6, 4),
    Province("53", "云南", "Yunnan", 1, 5),
    Province("52", "贵州", "Guizhou", 2, 5),
    Province("43", "湖南", "Hunan", 3, 5),
    Province("36", "江西", "Jiangxi", 4, 5),
    Province("33", "浙江", "Zhejiang", 5, 5),
    Province("45", "广西", "Guangxi", 2, 6),
    Province("44", "广东", "Guangdong", 3, 6),
    Province("35", "福建", "Fujian", 4, 6),
    Province("71", "台湾", "Taiwan", 6, 6),
    Province("46", "海南", "Hainan", 2, 7),
    Province("82", "澳门", "Macao", 3, 7),
    Province("81", "香港", "Hong Kong", 4, 7),
)

BY_DIGITS: dict[str, Province] = {province.digits: province for province in PROVINCES}


def word(table: dict[str, Word], name: str | None, lang: str) -> str:
    """Return the term ``name`` of ``table`` in ``lang``; the name itself where it has none."""
    if not name:
        return ""
    found = table.get(name)
    return found.in_(lang) if found else name


def reject_reason(reason: str, lang: str) -> str:
    """Return a reject's reason in words: known ones, those made of a column's name, else itself."""
    if reason in REJECT_REASONS:
        return REJECT_REASONS[reason].in_(lang)
    from trace_engine.events.schema import BY_NAME

    for prefix, words in REJECT_KINDS.items():
        column = BY_NAME.get(reason.removeprefix(prefix))
        if reason.startswith(prefix) and column is not None:
            name = column.name if lang == "en" else column.description_zh
            return words.in_(lang).format(name)
    return reason

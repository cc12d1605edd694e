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

# Why events were not judged; what is missing says what to bring.
# Why events were not judged; what is missing says what to bring.
SKIP_REASONS: dict[str, Word] = {
    "no_registry": Word(
        "没有登记数据（请用 --registry 提供企业、品种等表）",
        "no registry (bring one with --registry)",
    ),
    "no_drug": Word(
        "品种不明（请填 drug_id，或在品种登记中列出药品标识码）",
        "drug unknown (state drug_id, or list its identifier in the registry's drugs)",
    ),
    "unknown_drug": Word(
        "品种未登记或登记中没有通用名、类别（请补全品种登记）",
        "drug not in the registry, or without name and class there (complete drugs)",
    ),
    "no_identifier": Word("码中没有药品标识", "no product identifier in the code"),
    "no_approval_number": Word(
        "品种登记中没有批准文号（请填 approval_no）",
        "no approval number in the registry (state approval_no)",
    ),
    "no_batch_no": Word("没有批号（请填 batch_no）", "no batch number (state batch_no)"),
    "no_batch": Word(
        "没有批号或生产日期（请填 batch_no、production_date）",
        "no batch number or production day (state batch_no, production_date)",
    ),
    "no_bill": Word(
        "没有单据号或收货方（请填 bill_code、to_id）",
        "no bill or receiver (state bill_code, to_id)",
    ),
    "no_attributes": Word(
        "没有批号、有效期、品种可比（请填 batch_no、expiry_date、drug_id）",
        "no batch, expiry or drug to compare (state batch_no, expiry_date, drug_id)",
    ),
    "no_region": Word(
        "地区不明（请填发、收货地区，或在企业名录中登记）",
        "region unknown (state from_region and to_region, or register the enterprise's)",
    ),
    "no_region_stated": Word(
        "未填发货地区（请填 from_region）", "no region stated (state from_region)"
    ),
    "province_unknown": Word(
        "双方省份不明（请填 from_region、to_region，或在企业名录中登记）",
        "a province unknown (state from_region and to_region, or register the enterprise's)",
    ),
    "no_place": Word(
        "收货地区不明（请填 to_region，或登记收货企业所在地）",
        "destination unknown (state to_region, or register the receiver's region)",
    ),
    "no_giver": Word("没有发货方（请填 from_id）", "no giver (state from_id)"),
    "no_counterparty": Word(
        "没有交易对方，或为同一集团内部", "no other party, or one of the same group"
    ),
    "no_price": Word(
        "没有价格（请从订单、发票或结算数据关联 unit_price）",
        "no price (join unit_price from orders, invoices or settlements)",
    ),
    "no_cost": Word(
        "没有购进价（请在购进记录中也填 unit_price）",
        "no purchase price (state unit_price of purchases as well)",
    ),
    "no_record_time": Word(
        "没有上传时间（请填 record_time）", "no upload time (state record_time)"
    ),
    "no_buyer": Word("没有购买人（请填 buyer_id）", "no buyer (state buyer_id)"),
    "no_expiry": Word("没有有效期（请填 expiry_date）", "no expiry date (state expiry_date)"),
    "no_doctor": Word("没有医师（请填 doctor_id）", "no doctor (state doctor_id)"),
    "no_pharmacist": Word("没有药师（请填 pharmacist_id）", "no pharmacist (state pharmacist_id)"),
    "no_temperature": Word("没有温度（请填 temperature）", "no temperature (state temperature)"),
    "no_link": Word(
        "没有联系方式、地址、设备（请填 contact_id、address_id 或 buyer_device_id）",
        "no contact, address or device (state contact_id, address_id or buyer_device_id)",
    ),
    "no_pack_ratio": Word(
        "包装比例未知（请在 drugs 填 pack_spec）", "pack ratio unknown (state pack_spec in drugs)"
    ),
    "no_parent": Word("没有上级包装码（请填 parent_code）", "no parent code (state parent_code)"),
    "no_receivable": Word("没有应收数（请填 receivable）", "no quantity due (state receivable)"),
    "no_device": Word(
        "没有扫码设备和操作员（请填 device_id 或 operator_id）",
        "no device or operator (state device_id or operator_id)",
    ),
    "no_scan_time": Word(
        "没有逐码扫码时间，或由整箱扫码展开（请保留每个码的扫码时间）",
        "no time of its own for each code, or an expanded case scan (keep the scan times of codes)",
    ),
    "no_serial": Word("码中没有序列号", "no serial number in the code"),
    "no_territories": Word(
        "没有授权区域数据（请提供登记数据 territories 表）",
        "no allotted territories (bring the registry table territories)",
    ),
    "no_shop_register": Word(
        "没有网店登记数据（请提供登记数据 shops 表）",
        "no register of shops (bring the registry table shops)",
    ),
    "no_licence_events": Word(
        "没有许可事项变更数据（请提供登记数据 licence_events 表）",
        "no licence events (bring the registry table licence_events)",
    ),
    "no_interception_log": Word(
        "没有平台拦截日志，未能判定拦截率（请向平台调取）",
        "no interception log: the share intercepted was not judged (ask the platform for it)",
    ),
    "register_does_not_cover": Word(
        "网店登记未覆盖该省（请补充该省的 shops）",
        "the register of shops has none of that province (add its shops)",
    ),
    "type_unknown": Word(
        "企业类型不明（请在企业名录中填 type）",
        "type of enterprise unknown (state type in the registry's enterprises)",
    ),
    "unknown_seller": Word(
        "销售企业未登记或其类型、场所不明（请补全企业名录）",
        "seller, its type or its places not in the registry (complete enterprises)",
    ),
    "unknown_party": Word(
        "经手企业未登记（请补全企业名录）",
        "an enterprise not in the registry (complete enterprises)",
    ),
    "not_registered": Word(
        "企业未登记（请补全企业名录；另由无证规则判断）",
        "enterprise not in the registry (complete enterprises; judged as an unlicensed party)",
    ),
    "unregistered": Word(
        "企业未登记（请补全企业名录）", "enterprise not in the registry (complete enterprises)"
    ),
    "unknown_platform": Word(
        "平台未登记（请补全企业名录）", "platform not in the registry (complete enterprises)"
    ),
    "scope_unknown": Word(
        "经营范围缺失或用语无法识别（请用规范用语填 scope）",
        "scope missing or in unknown terms (state scope in the terms of the manual)",
    ),
    "scope_before_change": Word(
        "经营范围其后变更过，当时的范围不明",
        "the scope was changed since: that of the day is unknown",
    ),
    "earlier_licence_unknown": Word(
        "早于现证，当时的许可证不明（请提供 licence_events 表）",
        "before the licence on record (bring the registry table licence_events)",
    ),
    "before_recorded_history": Word(
        "数据起点之前的来源不明（请提供更早的数据，或在策略中设 history_from）",
        "began before the data (bring earlier data, or set history_from in the policy)",
    ),
    "look_up": Word("仅为查询", "look-ups"),
    "gift": Word("赠品", "gifts"),
    "date_only": Word("只有日期没有时刻（请填完整时间）", "a date only (state the time of day)"),
    "implausible_reading": Word(
        "温度读数不合理（请核对单位与传感器）", "impossible temperature (check unit and sensor)"
    ),
    "frozen": Word("冷冻品种", "kept frozen"),
    "split_sale": Word("拆零销售", "split sales"),
    "near_expiry": Word("近效期药品", "near expiry"),
    "prescription": Word("凭处方销售，不受限量约束", "on prescription: the limit does not bind"),
    "medical": Word("医疗机构", "medical institutions"),
    "not_retail": Word(
        "不是单一场所的零售企业或医疗机构", "no retailer or medical institution with one place"
    ),
    "several_places": Word("登记有多处场所", "enterprises with several registered places"),
    "maker": Word(
        "上市许可持有人、生产企业（自产）", "makers and holders: they make what they sell"
    ),
    "case": Word("整箱码", "codes of whole cases"),
    "internal": Word("集团内部价格", "prices inside a group"),
    "unit_doubt": Word(
        "疑为箱价与盒价混用（请核对计价单位）",
        "a case price beside a pack price, perhaps (check the unit of prices)",
    ),
    "new_schedule": Word("列管不久，尚在宽限期", "scheduled lately: within the days of grace"),
    "online_sale": Word(
        "网上售予个人，不受区域限制", "sold to persons online: bound to no territory"
    ),
    "other_licence": Word(
        "医疗机构制剂、中药配方颗粒：没有批准文号",
        "hospital preparations and TCM granules: they have no approval number",
    ),
    "foreign_gtin": Word(
        "境外商品码，另由未经批准药品规则判断",
        "GTINs of other countries: judged as unapproved products",
    ),
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

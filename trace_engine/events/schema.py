"""The canonical event table: the only place where the names of its columns stand.

A reader matches the headers of a source against :data:`COLUMNS`; everything behind the door speaks
of events by the fields of :class:`~trace_engine.events.batch.EventBatch`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from trace_engine.events.raw import InputError

TEXT = pa.string()
LABEL = pa.dictionary(pa.int32(), pa.string())  # text with few distinct values
TIMESTAMP = pa.timestamp("us", tz="Asia/Shanghai")


class Column(NamedTuple):
    """One column of the contract."""

    name: str
    type: pa.DataType  # as written by ``convert``; readers take any type that says the same
    description: str
    description_zh: str
    aliases: tuple[str, ...]  # Chinese headers, beside the name itself
    required: bool = False
    unit: str = ""


# fmt: off
COLUMNS: tuple[Column, ...] = (
    Column("event_id", TEXT, "idempotency key of the row", "事件唯一标识",
           ("事件编号", "事件ID", "事件标识", "流水号")),
    Column("event_time", TIMESTAMP, "when it happened; naive times are Asia/Shanghai; "
           "midnight exactly means the whole day", "单据日期（业务时间）",
           ("单据日期", "单据时间", "业务时间", "业务日期", "事件时间", "扫码时间"), required=True),
    Column("record_time", TIMESTAMP, "when it was uploaded", "上传时间",
           ("上传时间", "上报时间", "入库时间戳", "记录时间")),
    Column("event_type", LABEL, "name of the event type, its Chinese title or its MSFX bill number",
           "单据类型", ("单据类型", "事件类型", "业务类型"), required=True),
    Column("code", TEXT, "trace code as printed", "药品追溯码",
           ("追溯码", "药品追溯码", "电子监管码", "监管码"), required=True),
    Column("parent_code", TEXT, "code of the pack around it", "上级包装追溯码",
           ("父码", "上级码", "上级追溯码", "父级追溯码")),
    Column("pack_level", pa.int8(), "1 = smallest pack", "包装层级（1为最小包装）",
           ("包装层级", "包装级别", "码级别")),
    Column("actor_id", LABEL, "enterprise that scanned", "操作企业",
           ("操作企业", "上传企业", "上报企业", "操作单位", "扫码企业"), required=True),
    Column("from_id", LABEL, "supplier", "发货企业", ("发货企业", "发货单位", "供货企业", "供货单位")),
    Column("to_id", LABEL, "receiver; empty for sales to persons", "收货企业",
           ("收货企业", "收货单位", "购货企业", "购货单位")),
    Column("from_region", LABEL, "ship-from, GB/T 2260, six digits", "发货地行政区划代码",
           ("发货地", "发货地区划", "发货区划", "发货地行政区划", "发货地区代码")),
    Column("to_region", LABEL, "ship-to, GB/T 2260, six digits", "收货地行政区划代码",
           ("收货地", "收货地区划", "收货区划", "收货地行政区划", "收货地区代码")),
    Column("drug_id", LABEL, "product; default: the identifier in the code", "药品标识码",
           ("药品标识码", "药品标识", "药品编号", "药品编码", "药品ID")),
    Column("batch_no", LABEL, "production batch", "产品批号",
           ("批号", "产品批号", "生产批号", "药品批号")),
    Column("production_date", pa.date32(), "date of production", "生产日期", ("生产日期",)),
    Column("expiry_date", TEXT, "last day of use, YYYY-MM-DD or YYYY-MM", "有效期至",
           ("有效期至", "有效期", "有效期截止", "失效日期")),
    Column("quantity", pa.int32(), "smallest packs this row stands for; default 1", "数量",
           ("数量", "最小包装数量"), unit="packs"),
    Column("unit_price", pa.decimal128(12, 2), "price per smallest pack", "单价",
           ("单价", "单价(元)", "单价（元）", "销售单价", "含税单价"), unit="CNY"),
    Column("bill_code", TEXT, "number of the bill", "单据编号",
           ("单据号", "单据编号", "单据编码", "单号")),
    Column("from_bill_code", TEXT, "number of the supplier's bill", "上游单据编号",
           ("上游单据号", "上游单据编号", "来源单据号", "来源单据编号", "发货单编号")),
    Column("order_code", TEXT, "number of the order", "订单编号", ("订单号", "订单编号")),
    Column("invoice_no", TEXT, "number of the invoice", "发票号码", ("发票号", "发票号码")),
    Column("platform_id", LABEL, "online platform", "网络交易平台", ("平台", "平台编号", "第三方平台")),
    Column("shop_id", LABEL, "online shop", "网店", ("店铺", "店铺编号", "网店", "店铺ID")),
    Column("buyer_id", TEXT, "pseudonym of the buyer; identity, passport, insurance and phone "
           "numbers are hashed on reading", "购买人（假名）",
           ("购买人", "购药人", "购买人标识", "患者", "患者标识")),
    Column("contact_id", TEXT, "contact of the order; hashed on reading like buyer_id",
           "订单联系人（假名）", ("联系人", "收货人", "联系电话", "收货电话")),
    Column("address_id", TEXT, "delivery address of the order; hashed on reading like buyer_id",
           "收货地址（假名）", ("收货地址", "送货地址")),
    Column("buyer_device_id", TEXT, "device the order was placed from; hashed on reading",
           "下单设备（假名）", ("下单设备", "购买设备")),
    Column("rx_no", TEXT, "number of the prescription", "处方编号", ("处方号", "处方编号")),
    Column("pharmacist_id", LABEL, "pharmacist", "药师", ("药师", "药师编号", "审方药师")),
    Column("doctor_id", LABEL, "prescriber", "医师", ("医师", "医生", "医师编号", "处方医师")),
    Column("device_id", LABEL, "scanning device", "扫码设备", ("设备号", "设备编号", "设备序列号")),
    Column("operator_id", LABEL, "person or account that scanned", "操作员",
           ("操作员", "操作人", "操作员编号")),
    Column("split_sale", pa.bool_(), "pack sold in parts", "拆零销售", ("拆零", "拆零标志", "是否拆零")),
    Column("gift", pa.bool_(), "free of charge", "赠品", ("赠品", "赠送标志", "是否赠品")),
    Column("receivable", pa.int32(), "packs that the bill says are due", "应收货数量",
           ("应收数量", "应收货数量", "应收货总数量"), unit="packs"),
    Column("voids_event_id", TEXT, "this event cancels that one", "被作废事件",
           ("作废事件", "作废事件编号", "冲红事件")),
    Column("temperature", pa.float32(), "temperature of the goods", "温度", ("温度", "温度(℃)", "温度（℃）"),
           unit="°C"),
)
# fmt: on

BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}
REQUIRED: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.required)
LABELS: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.type == LABEL)
CANONICAL = pa.schema([(column.name, column.type) for column in COLUMNS])


def normalise_header(text: str) -> str:
    """Return ``text`` as headers are compared: no BOM, no outer blanks or quotes, lower case."""
    return text.replace("\ufeff", "").strip().strip('"').strip().lower()


_KNOWN: dict[str, str] = {
    normalise_header(alias): column.name
    for column in COLUMNS
    for alias in (column.name, *column.aliases)
}


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """How the headers of one source map to canonical columns."""

    columns: dict[str, str]  # canonical name -> header as it stands in the source
    ignored: tuple[str, ...]  # headers that mean nothing here


def match_headers(headers: Sequence[str], path: str) -> HeaderMatch:
    """Map ``headers`` of the file ``path`` to canonical columns, exactly but for case and blanks.

    Raises :class:`InputError` where two headers mean the same column or a required one is missing;
    the message names the nearest headers that were found.
    """
    columns: dict[str, str] = {}
    ignored: list[str] = []
    for header in headers:
        name = _KNOWN.get(normalise_header(header))
        if name is None:
            ignored.append(header)
        elif name in columns:
            raise InputError(
                f"{path}: columns {columns[name]!r} and {header!r} both mean {name}; keep one",
                f"{path}：列 {columns[name]} 与 {header} 都对应 {name}，请只保留一个",
            )
        else:
            columns[name] = header
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise InputError(*_missing(path, missing, ignored, list(headers)))
    return HeaderMatch(columns, tuple(ignored))


def _missing(
    path: str, missing: list[str], ignored: list[str], headers: list[str]
) -> tuple[str, str]:
    parts, parts_zh = [], []
    by_key = {normalise_header(header): header for header in ignored}
    for name in missing:
        wanted = [normalise_header(alias) for alias in (name, *BY_NAME[name].aliases)]
        near = next(
            (
                by_key[found[0]]
                for alias in wanted
                if (found := difflib.get_close_matches(alias, by_key, n=1, cutoff=0.6))
            ),
            None,
        )
        title = BY_NAME[name].aliases[0]
        parts.append(f"{name} ({title})" + (f", nearest is {near!r}" if near else ""))
        parts_zh.append(f"{name}（{title}）" + (f"，最接近的是 {near}" if near else ""))
    shown = ", ".join(headers[:12]) + (", ..." if len(headers) > 12 else "")
    return (
        f"{path}: required column missing: {'; '.join(parts)}; found: {shown or 'no columns'}",
        f"{path}：缺少必填列：{'；'.join(parts_zh)}；现有列：{shown or '无'}",
    )

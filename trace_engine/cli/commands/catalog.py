"""``trace-engine catalog``: every detector, what it needs, and where its thresholds come from."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from trace_engine.cli.bilingual import Text, command, common, language, option, say
from trace_engine.cli.settings import policy_option
from trace_engine.cli.show import plain

# What a plug-in adds beyond these is shown as it wrote it.
_WORDS_ZH = {
    "code": "追溯码",
    "none": "逐条记录",
    "drug": "品种",
    "enterprise": "企业",
    "seller": "销售企业",
    "receiver": "收货企业",
    "pharmacist": "药师",
    "prescription": "处方",
    "actor and event type": "操作企业、单据类型",
    "buyer and class": "购买人、品类",
    "buyer and drug": "购买企业、品种",
    "class and linked buyers": "品类、相互关联的购买人",
    "doctor and house": "医师、单位",
    "drug and channel": "品种、渠道",
    "enterprise and class": "企业、品类",
    "enterprise and device": "企业、设备",
    "enterprise and month": "企业、月份",
    "enterprise and shop": "企业、网店",
    "enterprise that uploads": "上传企业",
    "order, bill, or buyer and seller; with class": "订单、单据或买卖双方，及品类",
    "platform and month": "平台、月份",
    "receiver and bill": "收货企业、单据",
    "seller (or its group), product and batch number": "销售企业（或其集团）、品种、批号",
    "seller and channel; platform": "销售企业、渠道；平台",
    "seller and class": "销售企业、品类",
    "seller and drug": "销售企业、品种",
    "seller, drug and batch number": "销售企业、品种、批号",
    "group": "集团",
    "actor_id beside from_id": "actor_id 与 from_id 分别填报",
    "at least four closed months": "至少四个完整月份的数据",
    "contact_id, address_id or buyer_device_id": "contact_id、address_id 或 buyer_device_id",
    "device_id or operator_id": "device_id 或 operator_id",
    "gift or unit_price": "gift 或 unit_price",
    "interception log of the platform (for the share intercepted: not evaluated)": (
        "平台拦截日志（拦截率未能判定）"
    ),
    "platform_id or shop_id": "platform_id 或 shop_id",
    "record_time or voids_event_id": "record_time 或 voids_event_id",
    "regions of scans (stated or registered)": "扫码地区（填报或登记）",
    "registry.enterprises or from_region and to_region": (
        "registry.enterprises 或 from_region、to_region"
    ),
    "registry.enterprises or to_region": "registry.enterprises 或 to_region",
    "registry.enterprises.status_date or registry.licence_events": (
        "registry.enterprises.status_date 或 registry.licence_events"
    ),
    "retail sales": "零售记录",
    "hours": "小时",
    "minutes": "分钟",
    "seconds": "秒",
    "weeks": "周",
    "months": "个月",
    "working days": "个工作日",
    "level": "级",
    "ratio": "（比值）",
    "robust z": "（稳健 z 值）",
    "MAD": "倍绝对中位差",
    "sigma": "倍标准差",
    "probability": "（概率）",
    "times": "倍",
    "acts": "次",
    "bills": "张单据",
    "buyers": "名购买人",
    "classes": "个品类",
    "consignments": "批次发货",
    "dealings": "次往来",
    "dispensings": "次调配",
    "drugs": "个品种",
    "houses": "家单位",
    "lines": "行",
    "prescriptions": "张处方",
    "purchases": "单",
    "sellers": "家商家",
    "codes/s": "码/秒",
    "°C": "℃",
    "proposed": "建议值",
}

SHANGHAI = timezone(timedelta(hours=8))  # no daylight saving since 1991


def entries(policy_path: str | None) -> list[dict[str, Any]]:
    """Return the cards of all detectors (:func:`trace_engine.cards.cards`) as of today.

    ``policy_path`` names a policy file; None is the one shipped. Raises ``PolicyError``.
    """
    from trace_engine.cards import cards
    from trace_engine.detectors.registry import detector_classes
    from trace_engine.policy import Policy

    policy = Policy.load(policy_path)
    policy.check(detector_classes())
    return cards(policy, datetime.now(SHANGHAI).date())


def _word(text: str) -> str:
    """Return a key, a need, a unit or a source in the language of the running command."""
    if language() != "zh":
        return text
    from trace_engine.events.findings import UNITS_ZH

    return _WORDS_ZH.get(text) or UNITS_ZH.get(text, text)


def _print(entry: dict[str, Any]) -> None:
    zh = language() == "zh"
    family = {
        "suspected_violation": say("疑似违规", "suspected violation"),
        "data_quality": say("数据质量", "data quality"),
    }.get(entry["family"], entry["family"])
    title = f"{entry['title_zh']} {entry['title_en']}" if zh else entry["title_en"]
    click.echo(f"{entry['id']}  {title}  [{family}]")
    # A plug-in may have it in one language only.
    texts = [entry["false_positives"], entry["false_positives_zh"]]
    looks_like = next(filter(None, reversed(texts) if zh else texts), "")
    rows = [
        (say("按何判定", "key"), _word(entry["key"])),
        (say("所需数据", "needs"), ", ".join(map(_word, entry["needs"]))),
        (say("依据", "basis"), entry["basis"]),
        (say("易混情形", "looks like it"), looks_like),
    ]
    for name, value in rows:
        if value:
            click.echo(f"    {name}: {plain(value)}")
    for parameter in entry["parameters"]:
        about = parameter["description_zh" if zh else "description"]
        value = parameter["value"]
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(
            f"    · {parameter['name']} = {shown} {_word(parameter['unit'])}".rstrip()
            + (f" — {about}" if about else "")
            + say(f"（来源：{_word(parameter['source'])}）", f" (source: {parameter['source']})")
        )


@command(
    about=Text(
        "列出全部检测规则：含义、所需数据、参数及其单位与来源。可给出规则 ID 只看其一。",
        "List all detectors: what they need, parameters with units and sources. Name detectors to "
        "see only those.",
    )
)
@click.argument("detectors", metavar="[ID]...", nargs=-1)
@policy_option
@option("--json", "as_json", is_flag=True, about=Text("输出 JSON。", "Print JSON."))
@common
def catalog(
    detectors: tuple[str, ...],
    policy: str | None,
    as_json: bool,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Print the catalogue."""
    from trace_engine.cli.errors import UserError

    found = entries(policy)
    unknown = sorted(set(detectors) - {entry["id"] for entry in found})
    if unknown:
        raise UserError(
            say(
                f"没有检测规则 {'、'.join(unknown)}（trace-engine catalog 列出全部）",
                f"no such detector: {', '.join(unknown)} (trace-engine catalog lists all)",
            )
        )
    if detectors:
        found = [entry for entry in found if entry["id"] in detectors]
    if as_json:
        import msgspec

        data = msgspec.json.format(msgspec.json.encode(found), indent=2)
        sys.stdout.write(data.decode() + "\n")
        return 0
    for i, entry in enumerate(found):
        if i:
            click.echo()
        _print(entry)
    return 0

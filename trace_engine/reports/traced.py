"""Traces as text for a case officer, as rows for a spreadsheet, and as a Mermaid drawing.

Made of the documents of :mod:`trace_engine.reports.tracing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_engine.reports import timeline
from trace_engine.reports.words import ENTERPRISE_TYPES, Word, word

MOST_ROWS = 40  # enterprises, partners and the like told in text; CSV and JSON have all
MOST_DRAWN = 60  # lines of a tree, arrows of a drawing

PLACE_WORDS: dict[str, Word] = {
    "held": Word("在库", "held"),
    "in_transit": Word("在途", "in transit"),
    "sold": Word("已售予个人", "sold to persons"),
    "destroyed": Word("已销毁、报废或抽检", "destroyed"),
    "lost": Word("盘亏", "missed at stock-taking"),
    "unnamed": Word("出库未写明收货方", "shipped to nobody named"),
    "unknown": Word("无法判断", "not known"),
}
FLOW_WORDS: dict[str, Word] = {
    "sale": Word("销售", "sale"),
    "production": Word("生产出库", "production"),
    "supply": Word("供应", "supply"),
    "direct": Word("直调", "direct"),
    "gift": Word("赠品", "gift"),
    "other": Word("其他", "other"),
    "transfer": Word("跨集团调拨", "transfer between groups"),
    "internal": Word("内部调拨", "internal transfer"),
    "return": Word("退货", "return"),
    "recall": Word("召回", "recall"),
}
_NO_PLACE = Word("所在地未知", "place unknown")

Document = Mapping[str, Any]


def text(document: Document, lang: str) -> list[str]:
    """Return a trace as lines of text."""
    tell = {"batch": _batch, "enterprise": _enterprise, "code": _code}[document["trace"]]
    return tell(document, lang)


def rows(document: Document) -> list[dict[str, Any]]:
    """Return what a spreadsheet lists: a batch's enterprises, partners and reach, or events."""
    kind = document["trace"]
    if kind == "code":
        return [dict(event) for event in document["path"]]
    if kind == "batch":
        listed = document.get("enterprises")
        return [dict(row) for row in (document["origins"] if listed is None else listed)]
    found = []
    for name in ("upstream", "downstream", "can_come_from", "can_have_reached"):
        found += [{"list": name, **row} for row in document.get(name, ())]
    columns = dict.fromkeys(column for row in found for column in row)
    return [{column: row.get(column) for column in columns} for row in found]


def mermaid(document: Document) -> str:
    """Return the flows of a batch (or an enterprise's partners) as a Mermaid flow chart."""
    numbers: dict[str, str] = {}
    lines = ["graph LR"]

    def node(key: str, name: str) -> str:
        if key not in numbers:
            numbers[key] = f"n{len(numbers)}"
            lines.append(f'  {numbers[key]}["{_quoted(name or key)}"]')
        return numbers[key]

    if document["trace"] == "batch":
        names = {row["enterprise_id"]: row["name"] for row in document.get("enterprises", ())}
        arrows = [
            (f["from_id"], f["to_id"], f["type"], f["codes"]) for f in document.get("flows", ())
        ]
    else:
        own = document["enterprise_id"]
        names = {own: document["name"]}
        arrows = []
        for side in ("upstream", "downstream"):
            for row in document.get(side, ()):
                other = row["enterprise_id"]
                names[other] = row["name"]
                ends = (other, own) if side == "upstream" else (own, other)
                arrows.append((*ends, row["type_of_flow"], row["codes"]))
    most = sorted(arrows, key=lambda a: (-a[3], a))[:MOST_DRAWN]
    for source, target, kind, codes in most:
        ends = node(source, names.get(source, "")), node(target, names.get(target, ""))
        style = "-.->" if kind in ("return", "recall") else "-->"
        lines.append(f"  {ends[0]} {style}|{kind} {codes}| {ends[1]}")
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return name.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace("\n", " ")


# ---- text ------------------------------------------------------------------------------------


def _who(row: Document, lang: str) -> str:
    """Return an enterprise with its id, type and place."""
    name = row["name"] or row["enterprise_id"]
    ident = "" if name == row["enterprise_id"] else f" [{row['enterprise_id']}]"
    facts = [word(ENTERPRISE_TYPES, row["type"], lang), timeline.place_name(row["region"], lang)]
    inside = (", " if lang == "en" else "，").join(fact for fact in facts if fact)
    if not inside:
        return f"{name}{ident}"
    return f"{name}{ident} ({inside})" if lang == "en" else f"{name}{ident}（{inside}）"


def _more(count: int, lang: str) -> list[str]:
    if count <= MOST_ROWS:
        return []
    rest = count - MOST_ROWS
    return [f"  … and {rest} more" if lang == "en" else f"  …… 另有 {rest} 家"]


def _span(first: str | None, last: str | None, lang: str) -> str:
    if not first or not last:
        return ""
    first, last = first[:10], last[:10]
    if first == last:
        return first
    return f"{first} to {last}" if lang == "en" else f"{first} 至 {last}"


def _period(document: Document, lang: str) -> list[str]:
    begin, end = document.get("from"), document.get("to")
    if not begin and not end:
        return []
    if lang == "en":
        return [f"  Period: {begin or '…'} to {end or '…'} (standing as of its end)"]
    return [f"  期间：{begin or '……'} 至 {end or '……'}（去向以期末为准）"]


def _batch(document: Document, lang: str) -> list[str]:
    en = lang == "en"
    drug, batch = f"{document['drug_name']} [{document['drug_id']}]", document["batch_no"]
    codes, packs = document["codes"], document["packs"]
    span = _span(document["first_time"], document["last_time"], lang)
    lines = [
        f"Batch {batch} of {drug}" if en else f"批次追溯：{drug} 批号 {batch}",
        f"  {codes:,} codes ({packs:,} smallest packs), events {span}"
        if en
        else f"  追溯码 {codes:,} 个（最小包装 {packs:,}），事件时间 {span}",
        *_period(document, lang),
    ]
    if "places" in document:
        lines += ["", "Where the codes are" if en else "现在何处"]
        for name, count in document["places"].items():
            if count or name in ("held", "in_transit", "sold", "destroyed"):
                lines.append(f"  {word(PLACE_WORDS, name, lang)}{':' if en else '：'} {count:,}")
        lost = document["unaccounted"]
        lines.append(
            f"  Unaccounted for: {lost:,} of {codes:,}"
            if en
            else f"  去向不明合计： {lost:,} / {codes:,}"
        )
        if document["sold_again"]:
            again = document["sold_again"]
            lines.append(
                f"  Sold more than once: {again:,}" if en else f"  其中重复销售： {again:,}"
            )
    lines += ["", *_completeness(document["completeness"], lang)]
    if "origins" in document:
        lines += ["", "Where it came from" if en else "来源"]
        how = {
            "made": Word("生产", "made"),
            "first_seen": Word("无生产记录，最早见于", "no record of production, first seen at"),
        }
        for row in document["origins"][:MOST_ROWS]:
            first = (row["first_time"] or "")[:10]
            lines.append(
                f"  {word(how, row['how'], lang)} {_who(row, lang)}: {row['codes']:,} "
                f"{'codes, from' if en else '个码，自'} {first}"
            )
        lines += _more(len(document["origins"]), lang)
    if "enterprises" in document:
        lines += ["", *_provinces(document, lang), "", *_holders(document, lang)]
        lines += ["", "How it spread" if en else "流向", *_tree(document["enterprises"], lang)]
    return lines


def _completeness(complete: Document, lang: str) -> list[str]:
    en = lang == "en"
    share = complete["linked_share"]
    percent = "-" if share is None else f"{share:.2%}"
    parts = [
        ("only_shipped", "只有出库记录", "told by the shipment only"),
        ("only_received", "只有入库记录", "told by the receipt only"),
        ("shipped_to_nobody", "出库未写明收货方的记录", "shipments that name no receiver"),
        ("received_from_nobody", "入库未写明供货方的记录", "receipts that name no supplier"),
        ("without_origin", "没有生产记录的码", "codes without a record of production"),
        ("packages", "另有外包装码（其内装码已计入）", "larger packages, whose packs are counted"),
        ("replaced", "已被换码替代的码（不计）", "codes that others replaced, not counted"),
        (
            "other_batch_stated",
            "另有记录写了别的批号的码",
            "codes of which another batch is stated",
        ),
    ]
    moved, linked = complete["movements"], complete["linked"]
    lines = [
        f"Completeness: {linked:,} of {moved:,} movements told by both sides ({percent})"
        if en
        else f"完整性：{moved:,} 次流转中 {linked:,} 次双方均有记录（{percent}）"
    ]
    for name, zh, english in parts:
        if complete.get(name):
            lines.append(
                f"  {english}: {complete[name]:,}" if en else f"  {zh}：{complete[name]:,}"
            )
    return lines


def _provinces(document: Document, lang: str) -> list[str]:
    en = lang == "en"
    lines = ["By province" if en else "各省情况"]
    for row in document["provinces"]:
        place = timeline.place_name(row["province"], lang) or _NO_PLACE.in_(lang)
        if en:
            lines.append(
                f"  {place}: {row['enterprises']:,} enterprises, {row['holders']:,} to recall from;"
                f" held {row['held']:,}, coming {row['in_transit']:,}, sold {row['sold']:,},"
                f" destroyed {row['destroyed']:,}, unaccounted {row['unaccounted']:,}"
            )
        else:
            lines.append(
                f"  {place}：经手企业 {row['enterprises']:,} 家，须召回 {row['holders']:,} 家；"
                f"在库 {row['held']:,}，在途到货 {row['in_transit']:,}，已售 {row['sold']:,}，"
                f"已销毁 {row['destroyed']:,}，去向不明 {row['unaccounted']:,}"
            )
    return lines


def _holders(document: Document, lang: str) -> list[str]:
    en = lang == "en"
    found = [r for r in document["enterprises"] if r["held"] + r["in_transit"] > 0]
    found.sort(key=lambda r: (r["region"][:2], -r["held"] - r["in_transit"], r["enterprise_id"]))
    lines = [
        f"To notify: {len(found):,} enterprises that hold it or to which it is on its way"
        if en
        else f"须通知：{len(found):,} 家企业仍持有或将收到"
    ]
    for row in found[:MOST_ROWS]:
        counts = (
            f"held {row['held']:,}, coming {row['in_transit']:,}"
            if en
            else f"在库 {row['held']:,}，在途到货 {row['in_transit']:,}"
        )
        lines.append(f"  {_who(row, lang)}{': ' if en else '：'}{counts}")
    return lines + _more(len(found), lang)


def _tree(enterprises: Sequence[Document], lang: str) -> list[str]:
    """Return enterprises as a tree: below each those whose packs it gave."""
    en = lang == "en"
    lines: list[str] = []
    shown = enterprises[:MOST_DRAWN]
    # Whether the parent at each level has a later child: then its rail goes on.
    for i, row in enumerate(shown):
        level = row["level"]
        rails = ["│  " if _goes_on(shown, i, depth) else "   " for depth in range(1, level)]
        elbow = "" if level == 0 else ("├─ " if _goes_on(shown, i, level) else "└─ ")
        facts = [
            (row["received"] + row["transferred_in"], "收", "in"),
            (row["shipped"] + row["transferred_out"], "发", "out"),
            (row["returned_out"], "退出", "returned"),
            (row["sold"], "售", "sold"),
            (row["held"], "存", "held"),
            (row["in_transit"], "在途", "coming"),
            (row["destroyed"], "销毁", "destroyed"),
            (row["unaccounted"], "不明", "unaccounted"),
        ]
        told = [f"{english if en else zh} {count:,}" for count, zh, english in facts if count]
        name = row["name"] or row["enterprise_id"]
        lines.append(f"  {''.join(rails)}{elbow}{name}  {' · '.join(told)}".rstrip())
    rest = len(enterprises) - len(shown)
    if rest > 0:
        lines.append(f"  … and {rest} more" if en else f"  …… 另有 {rest} 家")
    return lines


def _goes_on(rows_: Sequence[Document], at: int, depth: int) -> bool:
    """Return whether a row after ``at`` stands at ``depth`` before one that stands above it."""
    for row in rows_[at + 1 :]:
        if row["level"] <= depth:
            return bool(row["level"] == depth)
    return False


def _enterprise(document: Document, lang: str) -> list[str]:
    en = lang == "en"
    lines = [
        f"Enterprise {_who(document, lang)}" if en else f"企业追溯：{_who(document, lang)}",
        *_period(document, lang),
    ]
    if document["drug_id"]:
        lines.append(f"  {'Drug' if en else '药品'}: {document['drug_id']}")
    if document["edges_by_month"]:
        count = document["edges_by_month"]
        lines.append(
            f"  {count:,} edges are older than the detail kept: only their months are known"
            if en
            else f"  {count:,} 条流向早于明细保留期，只知月份"
        )
    titles = {
        "upstream": Word("直接上游", "Bought from"),
        "downstream": Word("直接下游", "Gave to"),
        "can_come_from": Word("可能的来源（按时间先后可达）", "Goods can have come from"),
        "can_have_reached": Word("可能到达（按时间先后可达）", "Goods can have reached"),
    }
    for name, title in titles.items():
        found = document.get(name)
        if found is None:
            continue
        lines += ["", f"{title.in_(lang)} ({len(found):,})"]
        for row in found[:MOST_ROWS]:
            if name.startswith("can"):
                hops = f"{row['hops']} hops" if en else f"{row['hops']} 手"
                lines.append(f"  {hops}  {(row['time'] or '')[:10]}  {_who(row, lang)}")
                continue
            kind = word(FLOW_WORDS, row["type_of_flow"], lang)
            span = _span(row["first_time"], row["last_time"], lang)
            count = f"{row['packs']:,} packs" if en else f"{row['packs']:,} 盒"
            lines.append(f"  {_who(row, lang)}  {kind}  {count}  ¥{row['value']:,.2f}  {span}")
        lines += _more(len(found), lang)
    return lines


def _code(document: Document, lang: str) -> list[str]:
    en = lang == "en"
    drug = f"{document['drug_name']} [{document['drug_id']}]"
    batch = document["batch_no"] or "-"
    lines = [
        f"Trace code {document['code']}: {drug}, batch {batch}"
        if en
        else f"追溯码 {document['code']}：{drug}，批号 {batch}"
    ]
    if "place" in document:
        at = document["at"]
        where = word(PLACE_WORDS, document["place"], lang)
        who = "" if at is None else f"{': ' if en else '：'}{_who(at, lang)}"
        lines.append(f"  {'Now' if en else '现状'}{': ' if en else '：'}{where}{who}")
        if document["coming_from"]:
            who = _who(document["coming_from"], lang)
            lines.append(f"  {'from' if en else '发自'} {who}")
        if document["sales"] > 1:
            count = document["sales"]
            lines.append(f"  sold {count} times" if en else f"  已重复销售 {count} 次")
        if document["recalled"]:
            lines.append("  recalled" if en else "  已召回")
        if document["contents_known"]:
            shown = ", ".join(document["contents"][:5])
            count = document["contents_known"]
            lines.append(f"  contains {count}: {shown}" if en else f"  内含 {count} 个码：{shown}")
    if document.get("parents"):
        inside = ", ".join(document["parents"])
        lines.append(f"  packed in {inside}" if en else f"  装于 {inside}")
    if document["events_voided"]:
        count = document["events_voided"]
        lines.append(
            f"  {count} events made void are left out" if en else f"  已略去作废事件 {count} 个"
        )
    return [*lines, "", *timeline.as_text(timeline.build(document["path"], (), lang), lang)]

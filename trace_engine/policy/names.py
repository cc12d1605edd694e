"""Generic names of drugs: ingredient, composition and route from how a name is written.

A Chinese generic name is (salt) + ingredient + (salt) + form: 盐酸胺碘酮片 is 胺碘酮, oral. Lists
name ingredients, so both sides are brought to the bare ingredient and compared as a whole: 奎宁
never matches 奎尼丁, nor 雌二醇 the compound 屈螺酮炔雌醇. Words that make a substance of its own
(酯, 碳酸, 酸) stay. The ingredients of a compound are compared as a set: 阿托品地芬诺酯 is
地芬诺酯阿托品.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from trace_engine.policy.values import Route

_BRACKETS = re.compile(r"[(\[（【〔][^)\]）】〕]*[)\]）】〕]")
_NOISE = re.compile(r"[\s·・\-—_®™]|[IVX]+$")  # after NFKC, Ⅱ is II, and ™ is TM
# A strength or pack size written behind the name: 华法林钠片3mg*80片, never the 12 of 维生素B12.
_STRENGTH = re.compile(
    r"(?<![A-Za-z0-9.])\d+(?:\.\d+)?(?:mg|g|ml|l|μg|ug|mcg|iu|u|万|%|片|粒|袋|支|瓶|丸|贴|s).*$",
    re.IGNORECASE,
)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")

# Longest first, so that 口服溶液 is not taken for 溶液. The route a form stands for; None: unclear.
_FORMS: dict[str, Route | None] = {
    # injection
    "注射用无菌粉末": "injection", "粉针剂": "injection", "注射液": "injection",
    "注射剂": "injection", "注射用": "injection", "注射": "injection", "粉针": "injection",
    "冻干粉": "injection", "预充式": "injection", "预填充": "injection",
    "混悬注射液": "injection", "长效注射液": "injection", "缓释微球": "injection",
    "微球": "injection", "冻干粉针": "injection", "冻干粉针剂": "injection",
    "注射溶液": "injection", "植入剂": None, "缓释植入剂": None,
    # topical
    "滴眼液": "topical", "滴眼剂": "topical", "眼用凝胶": "topical", "眼膏": "topical",
    "眼膏剂": "topical", "滴耳液": "topical", "滴鼻液": "topical", "鼻喷雾剂": "topical",
    "鼻用喷雾剂": "topical", "乳膏": "topical", "乳膏剂": "topical", "软膏": "topical",
    "软膏剂": "topical", "凝胶": "topical", "凝胶剂": "topical", "凝胶贴膏": "topical",
    "搽剂": "topical", "洗剂": "topical", "洗液": "topical", "酊": "topical", "酊剂": "topical",
    "涂剂": "topical", "涂膜剂": "topical", "贴膏": "topical", "贴剂": "topical", "贴片": "topical",
    "透皮贴剂": "topical", "透皮贴片": "topical", "栓": "topical", "栓剂": "topical",
    "阴道片": "topical", "阴道胶囊": "topical", "阴道栓": "topical", "阴道凝胶": "topical",
    "阴道软胶囊": "topical", "阴道泡腾片": "topical", "阴道缓释栓": "topical",
    "外用溶液": "topical", "外用散": "topical", "散剂外用": "topical", "喷剂": "topical",
    "含漱液": "topical", "口腔贴片": "topical", "灌肠剂": "topical", "灌肠液": "topical",
    "眼用膜": "topical", "滴耳剂": "topical", "滴鼻剂": "topical", "鼻用凝胶": "topical",
    "巴布膏": "topical", "橡胶膏": "topical", "油膏": "topical", "擦剂": "topical",
    "阴道泡腾胶囊": "topical", "阴道缓释凝胶": "topical", "漱口液": "topical",
    # inhaled
    "吸入粉雾剂": "inhaled", "粉雾剂": "inhaled", "吸入气雾剂": "inhaled", "气雾剂": "inhaled",
    "吸入溶液": "inhaled", "吸入用溶液": "inhaled", "雾化溶液": "inhaled", "喷雾剂": None,
    "吸入混悬液": "inhaled", "吸入用混悬液": "inhaled", "吸入剂": "inhaled", "吸入用": "inhaled",
    # oral
    "口服常释剂型": "oral", "口服溶液": "oral", "口服溶液剂": "oral", "口服液": "oral",
    "口服混悬液": "oral", "口服混悬剂": "oral", "口服乳": "oral", "口服滴剂": "oral",
    "干混悬剂": "oral", "混悬颗粒": "oral", "糖浆": "oral", "糖浆剂": "oral", "合剂": "oral",
    "缓释片": "oral", "控释片": "oral", "肠溶片": "oral", "分散片": "oral", "咀嚼片": "oral",
    "泡腾片": "oral", "口崩片": "oral", "口腔崩解片": "oral", "含片": "oral", "舌下片": "oral",
    "双层片": "oral", "糖衣片": "oral", "薄膜衣片": "oral", "肠溶缓释片": "oral", "片": "oral",
    "片剂": "oral", "缓释胶囊": "oral", "控释胶囊": "oral", "肠溶胶囊": "oral", "软胶囊": "oral",
    "硬胶囊": "oral", "肠溶微丸胶囊": "oral", "胶囊": "oral", "胶囊剂": "oral", "胶丸": "oral",
    "颗粒": "oral", "颗粒剂": "oral", "肠溶颗粒": "oral", "缓释颗粒": "oral", "干糖浆": "oral",
    "散": "oral", "散剂": "oral", "丸": "oral", "丸剂": "oral", "滴丸": "oral", "滴剂": "oral",
    "膜": "oral", "口溶膜": "oral", "茶": "oral", "酒": "oral", "溶液": None, "溶液剂": None,
    "冲剂": "oral", "煎膏剂": "oral", "浸膏片": "oral", "浓缩丸": "oral", "水蜜丸": "oral",
    "大蜜丸": "oral", "水丸": "oral", "蜜丸": "oral", "肠溶软胶囊": "oral", "缓释微丸": "oral",
    "缓释混悬液": "oral", "结肠溶胶囊": "oral", "缓释滴丸": "oral", "流浸膏": "oral",
    "混悬液": None, "乳剂": None, "乳状注射液": "injection", "脂肪乳": "injection",
}  # fmt: skip
_SUFFIXES = sorted(_FORMS, key=len, reverse=True)
_PREFIX_FORMS = ("注射用", "吸入用", "外用", "口服")
# What stands between the ingredient and the form and says nothing of the ingredient.
_MODIFIERS = (
    "缓释", "控释", "肠溶", "分散", "咀嚼", "泡腾", "口腔崩解", "口崩", "薄膜衣", "糖衣", "速释", "双释放",
    "舌下", "透皮", "鼻用", "眼用", "外用", "长效", "混悬", "吸入", "口服",
)  # fmt: skip
# Vehicles of large-volume infusions: 左氧氟沙星氯化钠注射液.
_VEHICLES = ("氯化钠", "葡萄糖")

_SALT_PREFIXES = (
    "盐酸", "硫酸", "马来酸", "磷酸", "枸橼酸", "酒石酸", "重酒石酸", "富马酸", "甲磺酸", "苯磺酸",
    "对甲苯磺酸", "醋酸", "乙酸", "乳酸", "氢溴酸", "琥珀酸", "丁二酸", "丙酸", "戊酸", "苯甲酸",
    "葡萄糖酸", "二盐酸", "双磷酸", "水杨酸", "草酸", "门冬氨酸", "硝酸", "氢氯酸", "双羟萘酸",
    "棕榈酸", "环戊丙酸", "酒石酸氢", "枸橼酸氢", "己二酸", "乙磺酸", "羟乙磺酸", "右酒石酸", "苹果酸",
    "半水合", "一水合", "二水合", "三水合", "无水",
)  # fmt: skip
_SALT_SUFFIXES = (
    "二钠", "钠", "钾", "钙", "镁", "盐酸盐", "硫酸盐", "磷酸盐", "氢溴酸盐", "酒石酸盐", "枸橼酸盐",
    "富马酸盐", "甲磺酸盐", "醋酸盐", "琥珀酸盐", "马来酸盐", "一水合物", "二水合物", "半水合物",
    "水合物",
)  # fmt: skip
_SEPARATORS = re.compile(r"[/+、,;&]|和(?=.{2})")
# Openings of compound names that carry no 复方: their first syllables abbreviate two ingredients.
_COMPOUND_OPENINGS = re.compile(
    r"^(?:氨酚|氨咖|酚麻|美扑|双扑|布洛伪麻|愈酚|愈创|西替伪麻|氯雷伪麻|特酚|特洛伪麻|氨愈|洛芬待因|"
    r"美敏|麻美|可愈|呋麻|那敏|复[^方]|双[^氯氢膦嘧磺])"
)


class GenericName(NamedTuple):
    """A name taken apart. ``compound`` is what the name says; False may mean unknown.

    ``parts``: the ingredients of a compound that writes them apart (A/B, A+B, A、B), else the base.
    ``formed``: the name ends with a dosage form, as a generic name does and a brand seldom.
    """

    base: str
    compound: bool
    route: Route | None
    parts: frozenset[str] = frozenset()
    formed: bool = False


NAMELESS = GenericName("", False, None)


@lru_cache(maxsize=65_536)
def parse_generic_name(name: str, form: str = "") -> GenericName:
    """Take a generic name apart; ``form`` (the registry's dosage form) overrides the name's."""
    text = _NOISE.sub("", _BRACKETS.sub("", _plain(name)).strip())
    short = _STRENGTH.sub("", text)
    if len(short) > 1:  # else the strength stands in front: 0.9%氯化钠注射液
        text = _NOISE.sub("", short).strip("*×:,.")
    text = _OLD_WORDS.sub(lambda found: _OLD[found[0]], text)
    stated = form_route(form)
    route: Route | None = None
    for prefix in _PREFIX_FORMS:
        if text.startswith(prefix) and len(text) > len(prefix) + 1:
            text = text[len(prefix) :]
            route = {"注射用": "injection", "吸入用": "inhaled", "外用": "topical", "口服": "oral"}[
                prefix
            ]  # type: ignore[assignment]
            break
    text, named, formed = _strip_form(text)
    route = stated or route or named
    apart = [part for part in _SEPARATORS.split(text) if part]
    compound = text.startswith("复方") or len(apart) > 1 or bool(_COMPOUND_OPENINGS.match(text))
    text = text.removeprefix("复方")
    if route == "injection":
        for vehicle in _VEHICLES:
            if text.endswith(vehicle) and len(text) > len(vehicle) + 1:
                text = text[: -len(vehicle)]
                break
    base = _strip_salt(text)
    parts = [_strip_salt(part.removeprefix("复方")) for part in apart] if len(apart) > 1 else [base]
    return GenericName(base, compound, route, frozenset(parts), formed or route == "injection")


@lru_cache(maxsize=65_536)
def parse_product_name(name: str, form: str = "") -> tuple[GenericName, ...]:
    """Take a product name apart, brand and generic in one: 芬必得(布洛芬缓释胶囊), 芬必得®布洛芬胶囊.

    Returns the readings that end with a dosage form, in brackets or not; where none does, all.
    """
    text = _plain(name)
    pieces = [_BRACKETS.sub("", text), *_INSIDE.findall(text)]
    for mark in ("®", "(R)", "TM"):
        pieces += [piece.split(mark, 1)[1] for piece in pieces if mark in piece]
    readings = [parse_generic_name(piece, form) for piece in pieces if _CHINESE.search(piece)]
    readings = [r for r in dict.fromkeys(readings) if r.base and r.base not in _NO_NAMES]
    return tuple([r for r in readings if r.formed] or readings)


def is_chinese(name: str) -> bool:
    """Return whether a name holds at least two Chinese characters, as every generic name does."""
    return len(_CHINESE.findall(name)) >= 2


def ingredients(name: GenericName, known: frozenset[str]) -> frozenset[str]:
    """Return the ingredients of a name, in whatever order they are written; empty if unclear.

    ``known``: bare ingredients by which a compound written in one piece (地芬诺酯阿托品) is cut.
    """
    if len(name.parts) > 1:
        return name.parts
    found: list[str] = []
    rest = name.base
    while rest:
        ahead = next((rest[:n] for n in range(len(rest), 1, -1) if rest[:n] in known), None)
        if ahead is None:
            bare = _strip_salt(rest)  # 盐酸 between two ingredients
            if bare == rest:
                return frozenset()
            rest = bare
            continue
        found.append(ahead)
        rest = rest[len(ahead) :]
    return frozenset(found)


def _plain(name: str) -> str:
    """Return a name with full-width and composed characters in their plain form."""
    return unicodedata.normalize("NFKC", name.replace("®", " ® ").replace("™", " TM ")).strip()


_INSIDE = re.compile(r"[(\[（【〔]([^)\]）】〕]*)[)\]）】〕]")
# What stands in brackets behind a generic name and is none.
_NO_NAMES = frozenset(
    {"薄膜衣", "糖衣", "儿童", "儿童型", "小儿", "成人", "进口", "国产", "处方药", "非处方药", "甲类",
     "乙类", "赠品", "新包装", "水蜜丸", "浓缩丸", "无糖", "无糖型", "预充式", "笔芯", "特充", "日用",
     "夜用", "日片", "夜片", "基药", "集采", "缓释", "肠溶", "冷藏", "外用", "口服"}
)  # fmt: skip
# Names of old for ingredients that lists call otherwise.
_OLD = {
    "麻黄素": "麻黄碱",
    "扑热息痛": "对乙酰氨基酚",
    "扑尔敏": "氯苯那敏",
    "甲氰咪胍": "西咪替丁",
}
_OLD_WORDS = re.compile("|".join(_OLD))

# Ingredients that stand beside listed ones in compounds: names in one piece are cut by them.
PARTNERS = frozenset(
    {"阿托品", "咖啡因", "桔梗", "甘草", "对乙酰氨基酚", "布洛芬", "氯苯那敏", "愈创甘油醚", "麦角胺",
     "纳洛酮", "阿司匹林", "双氯芬酸", "塞来昔布", "苯海拉明", "罂粟碱", "氯化铵", "异丙嗪"}
)  # fmt: skip


def form_route(form: str) -> Route | None:
    """Return the route a dosage form stands for, or None where it is unclear."""
    form = unicodedata.normalize("NFKC", form).strip()
    if not form:
        return None
    for known in _SUFFIXES:
        if form == known:
            return _FORMS[known]
    if "注射" in form or "injection" in form.lower():
        return "injection"
    return next((_FORMS[s] for s in _SUFFIXES if form.endswith(s)), None)


def _strip_form(text: str) -> tuple[str, Route | None, bool]:
    """Return the text without its dosage form, the route that stands for, and whether it had one."""
    for suffix in _SUFFIXES:
        if text.endswith(suffix) and len(text) > len(suffix) + 1:
            route, text = _FORMS[suffix], text[: -len(suffix)]
            for modifier in _MODIFIERS:
                if text.endswith(modifier) and len(text) > len(modifier) + 1:
                    text = text[: -len(modifier)]
            return text, route, True
    return text, None, False


def _strip_salt(text: str) -> str:
    """Return an ingredient without the acid or metal it is bound to."""
    text = text.replace("硫酸氢氯吡格雷", "氯吡格雷")  # a hydrogen sulphate, not 氢氯…
    for prefix in sorted(_SALT_PREFIXES, key=len, reverse=True):
        # Two characters must remain: 硝酸甘油 would leave 甘油, which is another drug.
        if text.startswith(prefix) and len(text) > len(prefix) + 1 and text not in _WHOLE:
            text = text[len(prefix) :]
            break
    for suffix in _SALT_SUFFIXES:
        if text.endswith(suffix) and len(text) > len(suffix) + 1 and text not in _WHOLE:
            return text[: -len(suffix)]
    return text


# Names in which what looks like a salt is the substance itself.
_WHOLE = frozenset(
    {"硝酸甘油", "乳酸钠", "硫酸镁", "磷酸钠", "葡萄糖酸钙", "葡萄糖酸锌", "氯化钠", "氯化钾",
     "枸橼酸钾", "枸橼酸钠", "水杨酸", "碳酸锂", "乳酸钙", "醋酸钙", "磷酸钙", "安钠咖"}
)  # fmt: skip

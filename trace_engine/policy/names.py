"""Generic names of drugs: ingredient, composition and route from how a name is written.

A Chinese generic name is (salt) + ingredient + (salt) + form: 盐酸胺碘酮片 is 胺碘酮, oral. Lists
name ingredients, so both sides are brought to the bare ingredient and compared as a whole: 奎宁
never matches 奎尼丁, nor 雌二醇 the compound 屈螺酮炔雌醇. Words that make a substance of its own
(酯, 碳酸, 酸) stay.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from trace_engine.policy.values import Route

_BRACKETS = re.compile(r"[(\[（【〔][^)\]）】〕]*[)\]）】〕]")
_NOISE = re.compile(r"[\s·・\-—_]|[IVX]+$")  # after NFKC, Ⅱ is II

# Longest first, so that 口服溶液 is not taken for 溶液. The route a form stands for; None: unclear.
_FORMS: dict[str, Route | None] = {
    # injection
    "注射用无菌粉末": "injection", "粉针剂": "injection", "注射液": "injection",
    "注射剂": "injection", "注射用": "injection", "注射": "injection", "粉针": "injection",
    "冻干粉": "injection", "预充式": "injection", "预填充": "injection",
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
    "混悬液": None, "乳剂": None, "乳状注射液": "injection", "脂肪乳": "injection",
}  # fmt: skip
_SUFFIXES = sorted(_FORMS, key=len, reverse=True)
_PREFIX_FORMS = ("注射用", "吸入用", "外用", "口服")
# Vehicles of large-volume infusions: 左氧氟沙星氯化钠注射液.
_VEHICLES = ("氯化钠", "葡萄糖")

_SALT_PREFIXES = (
    "盐酸", "硫酸", "马来酸", "磷酸", "枸橼酸", "酒石酸", "重酒石酸", "富马酸", "甲磺酸", "苯磺酸",
    "对甲苯磺酸", "醋酸", "乙酸", "乳酸", "氢溴酸", "琥珀酸", "丁二酸", "丙酸", "戊酸", "苯甲酸",
    "葡萄糖酸", "二盐酸", "双磷酸", "水杨酸", "草酸", "门冬氨酸", "硝酸",
)  # fmt: skip
_SALT_SUFFIXES = (
    "二钠", "钠", "钾", "钙", "镁", "盐酸盐", "硫酸盐", "马来酸盐", "一水合物", "二水合物",
    "半水合物", "水合物",
)  # fmt: skip
_COMPOUND_MARKS = ("复方", "/", "+", "、", "和")
# Openings of compound names that carry no 复方: their first syllables abbreviate two ingredients.
_COMPOUND_OPENINGS = re.compile(
    r"^(?:氨酚|氨咖|酚麻|美扑|双扑|布洛伪麻|愈酚|愈创|西替伪麻|氯雷伪麻|特酚|特洛伪麻|氨愈|洛芬待因|"
    r"美敏|麻美|可愈|呋麻|那敏|复[^方]|双[^氯氢膦嘧磺])"
)


class GenericName(NamedTuple):
    """A name taken apart. ``compound`` is what the name says; False may mean unknown."""

    base: str
    compound: bool
    route: Route | None


@lru_cache(maxsize=65_536)
def parse_generic_name(name: str, form: str = "") -> GenericName:
    """Take a generic name apart; ``form`` (the registry's dosage form) overrides the name's."""
    text = _NOISE.sub("", _BRACKETS.sub("", unicodedata.normalize("NFKC", name)).strip())
    stated = form_route(form)
    route: Route | None = None
    for prefix in _PREFIX_FORMS:
        if text.startswith(prefix) and len(text) > len(prefix) + 1:
            text = text[len(prefix) :]
            route = {"注射用": "injection", "吸入用": "inhaled", "外用": "topical", "口服": "oral"}[
                prefix
            ]  # type: ignore[assignment]
            break
    text, named = _strip_form(text)
    route = stated or route or named
    compound = text.startswith("复方") or any(mark in text[1:] for mark in _COMPOUND_MARKS[1:])
    compound = compound or bool(_COMPOUND_OPENINGS.match(text))
    text = text.removeprefix("复方")
    if route == "injection":
        for vehicle in _VEHICLES:
            if text.endswith(vehicle) and len(text) > len(vehicle) + 1:
                text = text[: -len(vehicle)]
                break
    return GenericName(_strip_salt(text), compound, route)


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


def _strip_form(text: str) -> tuple[str, Route | None]:
    for suffix in _SUFFIXES:
        if text.endswith(suffix) and len(text) > len(suffix) + 1:
            return text[: -len(suffix)], _FORMS[suffix]
    return text, None


def _strip_salt(text: str) -> str:
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

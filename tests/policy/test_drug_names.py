"""Drugs as they are sold, by generic name and by product name: on which list each of them is."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

import pyarrow as pa
import pytest

from trace_engine.events.batch import Vocabulary
from trace_engine.policy import Policy
from trace_engine.policy.categories import Categories
from trace_engine.policy.names import PARTNERS, ingredients, parse_generic_name, parse_product_name
from trace_engine.registry import Registry

TODAY = (dt.date(2026, 6, 1) - dt.date(1970, 1, 1)).days

# Generic names that may not be sold online, each for a class or a name of the list.
BANNED = (
    "盐酸胺碘酮片", "盐酸普罗帕酮片", "硫酸奎尼丁片", "盐酸哌唑嗪片", "地高辛片", "氨茶碱缓释片",
    "盐酸异丙肾上腺素气雾剂", "苯妥英钠片", "卡马西平缓释片", "拉莫三嗪分散片", "达比加群酯胶囊",
    "甲磺酸达比加群酯胶囊", "华法林钠片", "替格瑞洛分散片", "西洛他唑胶囊", "扑米酮片", "碳酸锂缓释片",
    "秋水仙碱片", "米非司酮片", "醋酸环丙孕酮片", "卡前列甲酯栓", "戊酸雌二醇片", "半水合雌二醇凝胶",
    "米索前列醇片", "地诺前列酮栓", "法罗培南钠片", "夫西地酸钠片", "伏立康唑片", "利奈唑胺片",
    "苹果酸奈诺沙星胶囊", "泊沙康唑肠溶片", "头孢地尼分散片", "伊曲康唑胶囊", "左奥硝唑片",
    "头孢泊肟酯干混悬剂",
    "吸入用七氟烷", "注射用青霉素钠", "维生素C注射液", "盐酸利多卡因注射液", "依诺肝素钠注射液",
    "氨酚伪麻美芬片", "酚麻美敏混悬液", "复方盐酸伪麻黄碱缓释胶囊", "呋麻滴鼻液", "布洛伪麻那敏片",
    "愈酚甲麻那敏糖浆", "消咳宁片", "复方川贝精片", "镇咳宁糖浆", "氨酚待因片", "洛芬待因缓释片",
    "复方甘草片", "复方地芬诺酯片", "氨酚曲马多片", "氨酚羟考酮片", "右美沙芬缓释混悬液",
    "氢溴酸右美沙芬糖浆",
    "十一酸睾酮软胶囊", "司坦唑醇片", "替勃龙片", "重组人生长激素注射液", "注射用醋酸亮丙瑞林微球",
    "醋酸戈舍瑞林缓释植入剂", "艾司唑仑片", "酒石酸唑吡坦片", "盐酸曲马多缓释片", "盐酸哌甲酯缓释片",
    "枸橼酸芬太尼透皮贴剂", "硫酸吗啡缓释片", "吡仑帕奈片", "苏沃雷生片", "注射用A型肉毒毒素",
    "阿普唑仑片", "佐匹克隆片", "丁丙诺啡透皮贴剂", "盐酸麻黄碱片",
)  # fmt: skip
# Generic names that may be sold online, most of them near one that may not.
ALLOWED = (
    "阿托伐他汀钙片", "苯磺酸氨氯地平片", "阿莫西林胶囊", "布洛芬缓释胶囊", "对乙酰氨基酚片", "蒙脱石散",
    "硝酸甘油片", "硝酸异山梨酯片", "盐酸二甲双胍缓释片", "硫酸氢氯吡格雷片", "利伐沙班片", "阿哌沙班片",
    "多索茶碱片", "二羟丙茶碱片", "奥卡西平片", "丙戊酸钠缓释片", "左乙拉西坦片", "硫酸羟氯喹片",
    "炔雌醇环丙孕酮片", "雌二醇屈螺酮片", "屈螺酮炔雌醇片", "左炔诺孕酮片", "黄体酮胶囊", "头孢克肟胶囊",
    "头孢呋辛酯片", "奥硝唑胶囊", "左氧氟沙星片", "氟康唑胶囊", "特比萘芬乳膏", "夫西地酸乳膏",
    "伏立康唑滴眼液", "夫西地酸滴眼液", "甘精胰岛素注射液", "门冬胰岛素30注射液", "司美格鲁肽注射液",
    "度拉糖肽注射液",
    "利拉鲁肽注射液", "复方右美沙芬糖浆", "愈美片", "氨咖黄敏胶囊", "复方氨酚烷胺片", "格列美脲片",
    "麻杏止咳糖浆", "通宣理肺丸", "小青龙颗粒", "复方甲氧那明胶囊", "盐酸氨溴索口服溶液", "孟鲁司特钠片",
    "妥布霉素滴眼液", "莫匹罗星软膏", "维生素B12片", "葡萄糖酸钙口服溶液", "碳酸钙D3片", "复方丹参滴丸",
    "板蓝根颗粒", "六味地黄丸", "地屈孕酮片", "非那雄胺片", "盐酸舍曲林片", "盐酸文拉法辛缓释胶囊",
)  # fmt: skip


@lru_cache(maxsize=1)
def policy() -> Policy:
    return Policy.load()


def categories(column: str, *names: str) -> Categories:
    ids = [f"8{i:06d}" for i in range(len(names))]
    vocabulary = Vocabulary()
    vocabulary.drugs.ids(ids)
    registry = Registry({"drugs": pa.table({"drug_id": ids, column: list(names)})})
    return Categories(policy(), registry.view(vocabulary))


def is_banned(name: str, column: str = "generic_name") -> bool:
    return bool(categories(column, name).online_banned(TODAY)[0])


@pytest.mark.parametrize("name", BANNED)
def test_banned_names(name: str) -> None:
    assert is_banned(name)


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed_names(name: str) -> None:
    found = categories("generic_name", name)
    assert not found.online_banned(TODAY)[0]
    assert found.judgeable[0]


def full_width(text: str) -> str:
    """Return digits, letters and brackets as wide as Chinese characters."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


WRITTEN = (
    "{}",
    " {} ",
    "{}(0.1g)",
    "{} 0.1g*24片/盒",
    "某牌({})",
    "【某牌】{}",
    "{}(某牌)",
    "某牌®{}",
    "{}(薄膜衣)",
    "{}Ⅱ",
)


@pytest.mark.parametrize("pattern", WRITTEN)
@pytest.mark.parametrize("name", [BANNED[0], BANNED[16], BANNED[23], "氨酚曲马多片", "艾司唑仑片"])
def test_product_names_hold_a_banned_generic_name(name: str, pattern: str) -> None:
    written = pattern.format(name)
    assert is_banned(written, "name")
    assert is_banned(full_width(written), "name")


@pytest.mark.parametrize("pattern", WRITTEN)
@pytest.mark.parametrize(
    "name", ["屈螺酮炔雌醇片", "夫西地酸乳膏", "硫酸氢氯吡格雷片", "氨咖黄敏胶囊"]
)
def test_product_names_hold_an_allowed_generic_name(name: str, pattern: str) -> None:
    found = categories("name", pattern.format(name))
    assert not found.online_banned(TODAY)[0]
    assert found.judgeable[0]


@pytest.mark.parametrize(
    "name",
    [
        "白加黑",  # a brand: holds pseudoephedrine, and nothing says so
        "可达龙",
        "可达龙盐酸胺碘酮片",  # brand and ingredient, or a compound
        "可达龙 盐酸胺碘酮片",
        "炔雌醇环丙孕酮片",
        "Warfarin Sodium Tablets",
        "",
    ],
)
def test_what_cannot_be_told_is_reported_and_neither_banned_nor_safe(name: str) -> None:
    found = categories("name", name, "布洛芬片")
    assert found.judgeable.tolist() == [False, True]
    assert found.unmatched == 1
    assert found.unmatched_names() == [f"8000000 {name}".strip()]
    assert not found.online_banned(TODAY)[0]


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("阿托品地芬诺酯片", "地芬诺酯阿托品"),
        ("盐酸地芬诺酯、硫酸阿托品片", "地芬诺酯阿托品"),
        ("硫酸阿托品/盐酸地芬诺酯片", "地芬诺酯阿托品"),
        ("咖啡因麦角胺片", "麦角胺咖啡因"),
        ("纳洛酮丁丙诺啡舌下片", "丁丙诺啡纳洛酮"),
    ],
)
def test_ingredients_in_any_order_are_the_same_compound(written: str, listed: str) -> None:
    known = PARTNERS | {"地芬诺酯", "丁丙诺啡"}
    assert ingredients(parse_generic_name(written), known) == ingredients(
        parse_generic_name(listed), known
    )
    assert is_banned(written)


def test_ingredients_of_a_name_that_cannot_be_cut_are_unknown() -> None:
    assert ingredients(parse_generic_name("氨咖黄敏胶囊"), PARTNERS) == frozenset()


@pytest.mark.parametrize(
    ("name", "class_name", "first", "last"),
    [
        ("氢溴酸右美沙芬口服溶液", "psychotropic_2", "2024-07-01", None),
        ("复方氢溴酸右美沙芬糖浆", "psychotropic_2", "9999-12-31", None),
        ("对乙酰氨基酚/盐酸曲马多片", "psychotropic_2", "2023-07-01", None),
        ("盐酸曲马多片", "psychotropic_2", "2014-01-01", None),
        ("硫酸阿托品地芬诺酯片", "psychotropic_2", "2024-07-01", None),
        ("盐酸纳呋拉啡口腔崩解片", "psychotropic_2", "2024-07-01", None),
        ("盐酸氯卡色林片", "psychotropic_2", "2024-07-01", None),
        ("地达西尼胶囊", "psychotropic_2", "2023-10-01", None),
        ("莫达非尼片", "psychotropic_1", "2014-01-01", "2023-09-30"),
        ("氢溴酸依他佐辛注射液", "psychotropic_2", "2023-07-01", None),
        ("重酒石酸氢可酮对乙酰氨基酚片", "psychotropic_2", "2023-07-01", None),
        ("氨酚羟考酮片", "psychotropic_2", "2019-09-01", None),
        ("丁丙诺啡纳洛酮舌下片", "psychotropic_2", "2019-09-01", None),
        ("盐酸咪达唑仑注射液", "psychotropic_1", "2024-07-01", None),
        ("马来酸咪达唑仑片", "psychotropic_1", "9999-12-31", None),
        ("依托咪酯乳状注射液", "psychotropic_2", "9999-12-31", None),
    ],
)
def test_schedules_by_day(name: str, class_name: str, first: str, last: str | None) -> None:
    found = categories("generic_name", name)

    def on(date: dt.date) -> bool:
        number = (date - dt.date(1970, 1, 1)).days
        return bool(found.restricted(class_name, number)[0])

    begin = dt.date.fromisoformat(first)
    assert on(begin) is (begin.year < 9999)
    assert not on(begin - dt.timedelta(days=1))
    if last is not None:
        end = dt.date.fromisoformat(last)
        assert on(end)
        assert not on(end + dt.timedelta(days=1))


def test_the_rule_that_schedules_a_drug_is_named() -> None:
    found = categories("generic_name", "氨酚羟考酮片", "布洛芬片")
    reason = found.class_reason(0, "psychotropic_2", TODAY)
    assert reason is not None
    assert "2019年第63号" in reason.source
    assert found.class_reason(1, "psychotropic_2", TODAY) is None
    assert found.class_reason(-1, "psychotropic_2", TODAY) is None


def test_readings_of_a_product_name() -> None:
    assert [r.base for r in parse_product_name("新康泰克(复方盐酸伪麻黄碱缓释胶囊)")] == [
        "伪麻黄碱"
    ]
    assert [r.base for r in parse_product_name("可达龙")] == ["可达龙"]
    assert parse_product_name("Tablets (Ⅱ)") == ()

"""Which drugs are on which list, by name, class and day."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from trace_engine.events.batch import Vocabulary
from trace_engine.policy import Policy
from trace_engine.policy.categories import Categories
from trace_engine.policy.names import form_route, parse_generic_name
from trace_engine.registry import Registry

POLICY = Policy.load()


def day(text: str) -> int:
    return (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days


TODAY = day("2026-06-01")


def categories(*drugs: tuple[str, str, str]) -> Categories:
    """Drugs as (generic name, form, classes); their ids are 0, 1, 2, …"""
    ids = [f"8{i:06d}" for i in range(len(drugs))]
    names, forms, classes = (list(column) for column in zip(*drugs, strict=True))
    table = {"drug_id": ids, "generic_name": names, "form": forms, "classes": classes}
    vocabulary = Vocabulary()
    vocabulary.drugs.ids(ids)
    return Categories(POLICY, Registry({"drugs": pa.table(table)}).view(vocabulary))


def banned(name: str, form: str = "", classes: str = "", on: int = TODAY) -> bool:
    return bool(categories((name, form, classes)).online_banned(on)[0])


LISTED = [
    "地高辛", "丙吡胺", "奎尼丁", "哌唑嗪", "普鲁卡因胺", "普罗帕酮", "胺碘酮", "奎宁",
    "氨茶碱", "胆茶碱", "异丙肾上腺素", "苯妥英钠", "卡马西平", "拉莫三嗪", "水合氯醛",
    "达比加群酯", "华法林", "替格瑞洛", "西洛他唑", "扑米酮", "碳酸锂", "异氟烷", "七氟烷",
    "恩氟烷", "地氟烷", "秋水仙碱", "米非司酮", "复方米非司酮", "环丙孕酮", "卡前列甲酯",
    "雌二醇", "米索前列醇", "地诺前列酮", "法罗培南", "夫西地酸", "伏立康唑", "利奈唑胺",
    "奈诺沙星", "泊沙康唑", "头孢地尼", "伊曲康唑", "左奥硝唑", "头孢泊肟酯",
]  # fmt: skip


def test_the_list_has_43_names() -> None:
    stated = [n for r in POLICY.rules() if r.id.startswith("online_ban_2_4") for n in r.names]
    assert sorted(stated) == sorted(LISTED)
    assert len(LISTED) == 43


@pytest.mark.parametrize("name", LISTED)
def test_each_listed_name_is_banned_as_written_and_as_sold(name: str) -> None:
    assert banned(name)
    assert banned(f"{name}片")
    assert not banned(f"{name}片", on=day("2022-11-30"))
    if not name.startswith("复方"):
        assert banned(f"盐酸{name}胶囊")
        assert not banned(f"复方{name}片") or name == "米非司酮"


@pytest.mark.parametrize(
    ("name", "form", "classes", "is_banned"),
    [
        ("阿莫西林胶囊", "", "rx", False),
        ("布洛芬缓释胶囊", "", "otc_a", False),
        ("硝酸甘油片", "", "rx", False),
        ("炔雌醇环丙孕酮片", "", "rx", False),  # a compound
        ("戊酸雌二醇片", "", "rx", True),
        ("雌二醇凝胶", "", "rx", True),  # the topical exception is for antimicrobials only
        ("夫西地酸乳膏", "", "otc_a", False),
        ("夫西地酸", "乳膏剂", "rx", False),
        ("夫西地酸", "", "rx;topical", False),
        ("夫西地酸钠片", "", "rx", True),
        ("注射用头孢曲松钠", "", "rx", True),  # injections
        ("头孢曲松", "注射剂", "rx", True),
        ("头孢曲松", "", "rx;injection", True),
        ("甘精胰岛素注射液", "", "rx", False),  # hypoglycaemic
        ("司美格鲁肽注射液", "", "rx", False),
        ("新降糖药注射液", "", "rx;hypoglycaemic", False),
        ("氨酚伪麻美芬片(Ⅱ)", "", "otc_a", True),
        ("消咳宁片", "", "rx", True),
        ("通宣理肺丸", "", "otc_a;herbal_ephedra", False),
        ("氢溴酸右美沙芬片", "", "rx", True),
        ("复方右美沙芬糖浆", "", "otc_a", False),
        ("十一酸睾酮软胶囊", "", "rx", True),
        ("注射用A型肉毒毒素", "", "rx", True),
        ("冻干人用狂犬病疫苗", "", "vaccine", True),
        ("某院清热合剂", "", "hospital_preparation", True),
        ("黄芪配方颗粒", "", "tcm_granules", True),
        ("制川乌", "", "toxic_tcm", True),
        ("磷酸可待因片", "", "rx", True),
        ("复方甘草片", "", "rx", True),
    ],
)
def test_online_ban(name: str, form: str, classes: str, is_banned: bool) -> None:
    assert banned(name, form, classes) is is_banned


@pytest.mark.parametrize(
    ("name", "class_name", "first_day", "last_day"),
    [
        ("氢溴酸右美沙芬片", "psychotropic_2", "2024-07-01", None),
        ("氨酚曲马多片", "psychotropic_2", "2023-07-01", None),
        ("莫达非尼片", "psychotropic_2", "2023-10-01", None),
        ("莫达非尼片", "psychotropic_1", None, "2023-09-30"),
        ("咪达唑仑注射液", "psychotropic_1", "2024-07-01", None),
        ("咪达唑仑注射液", "psychotropic_2", None, "2024-06-30"),
        ("咪达唑仑片", "psychotropic_2", None, None),
        ("复方地芬诺酯片", "psychotropic_2", "2024-07-01", None),
        ("复方盐酸伪麻黄碱缓释胶囊", "ephedrine_compound", None, None),
        ("盐酸伪麻黄碱片", "precursor", None, None),
    ],
)
@pytest.mark.parametrize("registry_says_so", [False, True])
def test_schedules_hold_on_their_days(
    name: str, class_name: str, first_day: str | None, last_day: str | None, registry_says_so: bool
) -> None:
    """A dated rule decides, whether or not today's registry states the class."""
    found = categories((name, "", class_name if registry_says_so else ""))

    def on(date: int) -> bool:
        return bool(found.restricted(class_name, date)[0])

    if first_day:
        assert on(day(first_day))
        assert not on(day(first_day) - 1)
    else:
        assert on(day("2020-01-01"))
    if last_day:
        assert on(day(last_day))
        assert not on(day(last_day) + 1)
    else:
        assert on(TODAY)


def test_a_class_of_the_registry_counts_where_no_rule_dates_it() -> None:
    found = categories(("新药片", "", "psychotropic_2"), ("新药片", "", "rx"))
    assert found.restricted("psychotropic_2", day("2016-01-01")).tolist() == [True, False]
    assert found.restricted("no such class", TODAY).tolist() == [False, False]


def test_single_ingredients_are_not_compounds() -> None:
    found = categories(
        ("盐酸伪麻黄碱片", "", ""), ("盐酸曲马多缓释片", "", ""), ("酒石酸双氢可待因片", "", "")
    )
    for name in ("ephedrine_compound", "tramadol_compound", "narcotic_compound"):
        assert not found.restricted(name, TODAY).any()


def test_reasons_name_the_clause() -> None:
    found = categories(("头孢地尼胶囊", "", "rx"), ("阿莫西林胶囊", "", "rx"))
    reason = found.reason(0, TODAY)
    assert reason is not None
    assert "抗菌药物" in reason.zh
    assert "antimicrobials" in reason.en
    assert "2022年第111号" in reason.source
    assert found.reason(1, TODAY) is None
    assert found.reason(-1, TODAY) is None


def test_drugs_that_no_list_can_judge_are_counted() -> None:
    found = categories(("", "", ""), ("", "", "rx"), ("布洛芬片", "", ""), ("", "", "vaccine"))
    found.view.vocabulary.drugs.id("not registered")
    found.view.refresh()
    assert found.judgeable.tolist() == [False, False, True, True, False]
    assert found.unmatched == 3
    assert found.unmatched_names() == ["8000000", "8000001", "not registered"]
    assert found.unmatched_names(1) == ["8000000"]
    assert found.online_banned(TODAY).tolist() == [False, False, False, True, False]


def test_without_a_registry_nothing_is_listed() -> None:
    vocabulary = Vocabulary()
    vocabulary.drugs.id("8000001")
    found = Categories(POLICY, Registry().view(vocabulary))
    assert found.unmatched == 1
    np.testing.assert_array_equal(found.online_banned(TODAY), [False])


@pytest.mark.parametrize(
    ("name", "base", "compound", "route"),
    [
        ("盐酸胺碘酮片", "胺碘酮", False, "oral"),
        ("甲磺酸达比加群酯胶囊", "达比加群酯", False, "oral"),
        ("左氧氟沙星氯化钠注射液", "左氧氟沙星", False, "injection"),
        ("注射用头孢曲松钠", "头孢曲松", False, "injection"),
        ("吸入用七氟烷", "七氟烷", False, "inhaled"),
        ("硝酸甘油片", "硝酸甘油", False, "oral"),
        ("复方甘草片", "甘草", True, "oral"),
        ("妥布霉素滴眼液", "妥布霉素", False, "topical"),
        ("氨酚伪麻美芬片（Ⅱ）", "氨酚伪麻美芬", True, "oral"),
        ("阿莫西林", "阿莫西林", False, None),
        (" 阿莫西林 胶囊 ", "阿莫西林", False, "oral"),
    ],
)
def test_generic_names(name: str, base: str, compound: bool, route: str | None) -> None:
    assert parse_generic_name(name)[:3] == (base, compound, route)


@pytest.mark.parametrize(
    ("form", "route"),
    [("片剂", "oral"), ("小容量注射剂", "injection"), ("乳膏剂(激素类)", None), ("", None),
     ("冻干粉针剂", "injection"), ("滴眼剂", "topical")],
)  # fmt: skip
def test_forms(form: str, route: str | None) -> None:
    assert form_route(form) == route

"""The medicines of the simulated market: real generic names with the classes that rules ask for.

Classes use the words of the registry contract. ``online`` says whether an honest shop may offer
the name at all: the ban list of 2022 (药品网络销售禁止清单) names classes and single medicines.
Prices are typical ex-factory prices in CNY a pack; ``weight`` is relative demand.
"""

from __future__ import annotations

from typing import NamedTuple


class Medicine(NamedTuple):
    """One generic name: classes, form, units a pack, price (CNY), demand, where it is sold."""

    generic_name: str
    form: str
    classes: str  # joined by ";"
    units: int
    price: float
    weight: float
    online: bool  # may honestly be sold online
    retail: bool  # kept by pharmacies
    medical: bool  # kept by hospitals and clinics


FORMULARY: tuple[Medicine, ...] = (
    Medicine("阿托伐他汀钙片", "片剂", "rx", 7, 28.0, 26.0, True, True, True),
    Medicine("苯磺酸氨氯地平片", "片剂", "rx", 14, 18.0, 9.0, True, True, True),
    Medicine("感冒灵颗粒", "颗粒剂", "otc_a", 9, 9.5, 9.0, True, True, True),
    Medicine("布洛芬缓释胶囊", "胶囊剂", "otc_a", 20, 12.0, 8.0, True, True, True),
    Medicine(
        "复方盐酸伪麻黄碱缓释胶囊",
        "胶囊剂",
        "otc_a;ephedrine_compound",
        10,
        11.0,
        6.5,
        False,
        True,
        True,
    ),
    Medicine("盐酸二甲双胍缓释片", "片剂", "rx", 30, 16.0, 7.0, True, True, True),
    Medicine("硫酸氢氯吡格雷片", "片剂", "rx", 7, 48.0, 6.0, True, True, True),
    Medicine("阿莫西林胶囊", "胶囊剂", "rx", 24, 8.5, 6.0, True, True, True),
    Medicine("参松养心胶囊", "胶囊剂", "rx", 36, 25.0, 5.5, True, True, True),
    Medicine("头孢地尼胶囊", "胶囊剂", "rx", 10, 22.0, 5.0, False, True, True),
    Medicine("蒙脱石散", "散剂", "otc_a", 10, 14.0, 4.5, True, True, True),
    Medicine("健胃消食片", "片剂", "otc_b", 32, 7.8, 4.5, True, True, False),
    Medicine("维生素C片", "片剂", "otc_b", 100, 4.2, 4.0, True, True, False),
    Medicine("瑞舒伐他汀钙片", "片剂", "rx", 28, 35.0, 4.0, True, True, True),
    Medicine(
        "氨酚伪麻那敏片", "片剂", "otc_a;ephedrine_compound", 12, 9.0, 4.0, False, True, False
    ),
    Medicine("奥美拉唑肠溶胶囊", "胶囊剂", "rx", 14, 15.0, 4.0, True, True, True),
    Medicine("注射用头孢曲松钠", "注射剂", "rx;injection", 1, 6.5, 3.8, False, False, True),
    Medicine("板蓝根颗粒", "颗粒剂", "otc_b", 20, 10.5, 3.6, True, True, False),
    Medicine("氯雷他定片", "片剂", "otc_a", 6, 11.5, 3.4, True, True, False),
    Medicine(
        "甘精胰岛素注射液",
        "注射剂",
        "rx;injection;insulin;cold_chain",
        1,
        68.0,
        3.2,
        False,
        True,
        True,
    ),
    Medicine("秋水仙碱片", "片剂", "rx", 20, 13.0, 3.0, False, True, True),
    Medicine("复方丹参滴丸", "滴丸剂", "rx", 180, 26.0, 3.0, True, True, True),
    Medicine("氢溴酸右美沙芬片", "片剂", "rx;psychotropic_2", 24, 9.8, 2.8, False, True, True),
    Medicine("缬沙坦胶囊", "胶囊剂", "rx", 7, 24.0, 2.8, True, True, True),
    Medicine("藿香正气口服液", "口服溶液剂", "otc_a", 10, 13.5, 2.6, True, True, False),
    Medicine("氯化钠注射液", "注射剂", "rx;injection", 1, 3.2, 2.6, False, False, True),
    Medicine("六味地黄丸", "丸剂", "otc_a", 200, 19.0, 2.4, True, True, False),
    Medicine("艾司唑仑片", "片剂", "rx;psychotropic_2", 20, 6.6, 2.2, False, True, True),
    Medicine("利伐沙班片", "片剂", "rx;high_value", 5, 128.0, 2.2, True, True, True),
    Medicine("华法林钠片", "片剂", "rx", 60, 21.0, 2.0, False, True, True),
    Medicine("孟鲁司特钠片", "片剂", "rx", 5, 23.0, 2.0, True, True, True),
    Medicine(
        "四价流感病毒裂解疫苗",
        "注射剂",
        "vaccine;injection;cold_chain",
        1,
        110.0,
        1.8,
        False,
        False,
        True,
    ),
    Medicine(
        "人血白蛋白",
        "注射剂",
        "rx;injection;blood_product;cold_chain",
        1,
        380.0,
        1.6,
        False,
        False,
        True,
    ),
    Medicine("恩替卡韦分散片", "片剂", "rx", 28, 33.0, 1.6, True, True, True),
    Medicine("替格瑞洛片", "片剂", "rx", 14, 62.0, 1.5, False, True, True),
    Medicine("非那雄胺片", "片剂", "rx", 10, 40.0, 1.4, True, True, True),
    Medicine(
        "帕博利珠单抗注射液",
        "注射剂",
        "rx;injection;high_value;cold_chain",
        1,
        1980.0,
        0.8,
        False,
        False,
        True,
    ),
    Medicine("司坦唑醇片", "片剂", "rx;anabolic_or_peptide", 24, 45.0, 0.6, False, False, True),
    Medicine(
        "注射用A型肉毒毒素", "注射剂", "rx;injection;botulinum", 1, 900.0, 0.5, False, False, True
    ),
    Medicine("盐酸哌甲酯缓释片", "片剂", "rx;psychotropic_1", 15, 260.0, 0.4, False, False, True),
    Medicine("卡马西平片", "片剂", "rx", 100, 17.0, 1.2, False, True, True),
)

# Not sold online, yet allowed: injections that lower blood sugar are excepted from the ban.
INSULIN = "甘精胰岛素注射液"
BANNED_ONLINE = frozenset(m.generic_name for m in FORMULARY if not m.online) - {INSULIN}

"""Names shared by the registry: enterprise types, drug classes, licence states, errors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class RegistryError(ValueError):
    """The registry cannot be used. The message is one line: where, what was found and expected.

    ``zh`` is the same in Chinese.
    """

    def __init__(self, message: str, zh: str) -> None:
        super().__init__(" ".join(message.split()))
        self.zh = " ".join(zh.split())


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that is wrong but does not stop the run. ``row`` counts data rows from 1.

    ``str()`` of it is one line in English, ``zh`` the same in Chinese.
    """

    file: str
    row: int
    column: str
    value: str
    expected: str
    expected_zh: str

    @property
    def zh(self) -> str:
        """The problem as one line in Chinese."""
        return f"{self.file} 第{self.row}行 {self.column}：为{self.value!r}，应为{self.expected_zh}"

    def __str__(self) -> str:
        return (
            f"{self.file}, row {self.row}, {self.column}: found {self.value!r}, "
            f"expected {self.expected}"
        )


class EnterpriseType(IntEnum):
    """Type of an enterprise, stored as ``int8``; 0 = not in the registry or not stated."""

    UNKNOWN = 0
    MAH = 1  # marketing authorisation holder
    MANUFACTURER = 2
    WHOLESALER = 3
    CHAIN_HQ = 4
    CHAIN_STORE = 5
    PHARMACY = 6
    MEDICAL = 7
    PUBLIC_HOSPITAL = 8
    PLATFORM = 9
    LOGISTICS = 10

    @property
    def contract_name(self) -> str:
        """Name in files: ``chain_hq``."""
        return self.name.lower()


RETAIL_TYPES = frozenset({EnterpriseType.CHAIN_STORE, EnterpriseType.PHARMACY})
LICENSED_TYPES = frozenset(
    {
        EnterpriseType.MAH,
        EnterpriseType.MANUFACTURER,
        EnterpriseType.WHOLESALER,
        EnterpriseType.CHAIN_HQ,
        EnterpriseType.CHAIN_STORE,
        EnterpriseType.PHARMACY,
    }
)
"""Types that need a licence of the drug authorities to make or trade drugs."""
MEDICAL_TYPES = frozenset({EnterpriseType.MEDICAL, EnterpriseType.PUBLIC_HOSPITAL})

ENTERPRISE_TYPE_ZH: dict[EnterpriseType, str] = {
    EnterpriseType.UNKNOWN: "类型未知",
    EnterpriseType.MAH: "药品上市许可持有人",
    EnterpriseType.MANUFACTURER: "药品生产企业",
    EnterpriseType.WHOLESALER: "药品批发企业",
    EnterpriseType.CHAIN_HQ: "药品零售连锁总部",
    EnterpriseType.CHAIN_STORE: "药品零售连锁门店",
    EnterpriseType.PHARMACY: "单体药店",
    EnterpriseType.MEDICAL: "医疗机构",
    EnterpriseType.PUBLIC_HOSPITAL: "公立医疗机构",
    EnterpriseType.PLATFORM: "药品网络交易第三方平台",
    EnterpriseType.LOGISTICS: "药品储存运输企业",
}

ENTERPRISE_TYPE_EN: dict[EnterpriseType, str] = {
    EnterpriseType.UNKNOWN: "enterprise of unknown type",
    EnterpriseType.MAH: "marketing authorisation holder",
    EnterpriseType.MANUFACTURER: "drug manufacturer",
    EnterpriseType.WHOLESALER: "drug wholesaler",
    EnterpriseType.CHAIN_HQ: "pharmacy chain headquarters",
    EnterpriseType.CHAIN_STORE: "chain pharmacy",
    EnterpriseType.PHARMACY: "independent pharmacy",
    EnterpriseType.MEDICAL: "medical institution",
    EnterpriseType.PUBLIC_HOSPITAL: "public medical institution",
    EnterpriseType.PLATFORM: "online drug trading platform",
    EnterpriseType.LOGISTICS: "drug storage and transport firm",
}

ENTERPRISE_TYPE_NAMES: dict[str, EnterpriseType] = {
    **{t.contract_name: t for t in EnterpriseType if t},
    **{ENTERPRISE_TYPE_ZH[t]: t for t in EnterpriseType if t},
    "上市许可持有人": EnterpriseType.MAH,
    "持有人": EnterpriseType.MAH,
    "生产企业": EnterpriseType.MANUFACTURER,
    "批发企业": EnterpriseType.WHOLESALER,
    "批发": EnterpriseType.WHOLESALER,
    "连锁总部": EnterpriseType.CHAIN_HQ,
    "零售连锁总部": EnterpriseType.CHAIN_HQ,
    "连锁门店": EnterpriseType.CHAIN_STORE,
    "零售连锁门店": EnterpriseType.CHAIN_STORE,
    "零售药店": EnterpriseType.PHARMACY,
    "药店": EnterpriseType.PHARMACY,
    "公立医院": EnterpriseType.PUBLIC_HOSPITAL,
    "平台": EnterpriseType.PLATFORM,
    "第三方平台": EnterpriseType.PLATFORM,
    "物流企业": EnterpriseType.LOGISTICS,
    "物流": EnterpriseType.LOGISTICS,
}
"""Accepted spellings of ``type`` (after stripping; English in any case)."""

STATUS_NAMES: dict[str, str] = {
    **{name: name for name in ("active", "suspended", "cancelled", "revoked")},
    "正常": "active",
    "在营": "active",
    "有效": "active",
    "暂停": "suspended",
    "停业": "suspended",
    "注销": "cancelled",
    "已注销": "cancelled",
    "吊销": "revoked",
    "撤销": "revoked",
}

# Position of each known class in the bit mask. Append only: the order is the bit number.
CLASS_NAMES: tuple[str, ...] = (
    "rx",
    "otc_a",
    "otc_b",
    "ephedrine_compound",
    "psychotropic_1",
    "psychotropic_2",
    "narcotic",
    "narcotic_compound",  # oral compounds holding a narcotic
    "tramadol_compound",
    "injection",
    "blood_product",
    "vaccine",
    "anabolic_or_peptide",
    "botulinum",
    "toxic",  # medicinal toxic drugs
    "toxic_tcm",
    "radioactive",
    "precursor",  # drug precursor chemicals
    "hospital_preparation",
    "tcm_granules",
    "insulin",
    "hypoglycaemic",
    "topical",
    "compound",  # more than one active ingredient
    "high_value",
    "cold_chain",
    "herbal_ephedra",  # Chinese patent medicine with ephedra herb: not an ephedrine compound
)
CLASS_BITS: dict[str, int] = {name: bit for bit, name in enumerate(CLASS_NAMES)}
MAXIMUM_CLASSES = 64

CLASS_ZH: dict[str, str] = {
    "rx": "处方药",
    "otc_a": "甲类非处方药",
    "otc_b": "乙类非处方药",
    "ephedrine_compound": "含麻黄碱类复方制剂",
    "psychotropic_1": "第一类精神药品",
    "psychotropic_2": "第二类精神药品",
    "narcotic": "麻醉药品",
    "narcotic_compound": "含麻醉药品口服复方制剂",
    "tramadol_compound": "含曲马多口服复方制剂",
    "injection": "注射剂",
    "blood_product": "血液制品",
    "vaccine": "疫苗",
    "anabolic_or_peptide": "蛋白同化制剂、肽类激素",
    "botulinum": "A型肉毒毒素",
    "toxic": "医疗用毒性药品",
    "toxic_tcm": "毒性中药",
    "radioactive": "放射性药品",
    "precursor": "药品类易制毒化学品",
    "hospital_preparation": "医疗机构制剂",
    "tcm_granules": "中药配方颗粒",
    "insulin": "胰岛素",
    "hypoglycaemic": "降糖类药物",
    "topical": "外用制剂",
    "compound": "复方制剂",
    "high_value": "高值药品",
    "cold_chain": "冷链药品",
    "herbal_ephedra": "含麻黄的中成药",
}
CLASS_NAMES_ACCEPTED: dict[str, str] = {
    **{name: name for name in CLASS_NAMES},
    **{zh: name for name, zh in CLASS_ZH.items()},
}

# Terms of a business scope that are no class of drugs here, with the classes they cover. A scope
# with a term that is neither a class nor one of these is not understood, and not judged.
SCOPE_TERMS: dict[str, tuple[str, ...]] = {
    "化学药": (),
    "化学药制剂": (),
    "化学原料药": (),
    "化学原料药及其制剂": (),
    "抗生素": (),
    "抗生素制剂": (),
    "抗生素原料药": (),
    "抗生素原料药及其制剂": (),
    "中成药": (),
    "中药材": (),
    "中药饮片": (),
    "非处方药": ("otc_a", "otc_b"),
    "生化药品": ("anabolic_or_peptide", "insulin", "blood_product"),
    "生物制品": ("blood_product", "vaccine", "botulinum", "anabolic_or_peptide", "insulin"),
    "生物制品（除疫苗）": ("blood_product", "botulinum", "anabolic_or_peptide", "insulin"),
    "第二类精神药品制剂": ("psychotropic_2",),
    "第一类精神药品制剂": ("psychotropic_1",),
    "麻醉药品制剂": ("narcotic",),
    "毒性中药饮片": ("toxic_tcm",),
    "冷藏冷冻药品": ("cold_chain",),
}


class LicenceEvent(IntEnum):
    """What happened to a licence, as far as rules tell events apart."""

    OTHER = 0
    ISSUED = 1  # the first licence
    RENEWED = 2  # routine, at the end of its five years
    CHANGED = 3  # name, address, persons, warehouses, ...
    SCOPE_CHANGED = 4  # a change too
    SUSPENDED = 5
    RESUMED = 6
    CANCELLED = 7
    REVOKED = 8


LICENCE_EVENT_NAMES: dict[str, LicenceEvent] = {
    "issue": LicenceEvent.ISSUED,
    "issued": LicenceEvent.ISSUED,
    "核发": LicenceEvent.ISSUED,
    "首次核发": LicenceEvent.ISSUED,
    "新办": LicenceEvent.ISSUED,
    "renewal": LicenceEvent.RENEWED,
    "renewed": LicenceEvent.RENEWED,
    "换证": LicenceEvent.RENEWED,
    "换发": LicenceEvent.RENEWED,
    "延续": LicenceEvent.RENEWED,
    "change": LicenceEvent.CHANGED,
    "变更": LicenceEvent.CHANGED,
    "scope_change": LicenceEvent.SCOPE_CHANGED,
    "经营范围变更": LicenceEvent.SCOPE_CHANGED,
    "变更经营范围": LicenceEvent.SCOPE_CHANGED,
    "suspension": LicenceEvent.SUSPENDED,
    "suspended": LicenceEvent.SUSPENDED,
    "暂停": LicenceEvent.SUSPENDED,
    "暂停经营": LicenceEvent.SUSPENDED,
    "停业": LicenceEvent.SUSPENDED,
    "resumption": LicenceEvent.RESUMED,
    "resumed": LicenceEvent.RESUMED,
    "恢复": LicenceEvent.RESUMED,
    "恢复经营": LicenceEvent.RESUMED,
    "cancellation": LicenceEvent.CANCELLED,
    "cancelled": LicenceEvent.CANCELLED,
    "注销": LicenceEvent.CANCELLED,
    "revocation": LicenceEvent.REVOKED,
    "revoked": LicenceEvent.REVOKED,
    "吊销": LicenceEvent.REVOKED,
    "撤销": LicenceEvent.REVOKED,
}


def licence_event(text: str) -> LicenceEvent:
    """Return what ``text`` (``licence_events.kind``) means.

    Beside the names above, every kind that ends in ``_change`` or begins or ends with 变更 is a
    change; anything else (补发, an annual report) is :attr:`LicenceEvent.OTHER`.
    """
    text = text.strip().lower()
    found = LICENCE_EVENT_NAMES.get(text)
    if found is not None:
        return found
    if text.endswith(("_change", "变更")) or text.startswith("变更"):
        return LicenceEvent.CHANGED
    return LicenceEvent.OTHER

"""Check digits and formats of the identifiers a registry and a trace code carry.

Every function returns a :class:`Check`: true when the identifier is well formed, else a reason in
Chinese and English. Nothing here asks whether the identifier was ever issued.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from stdnum.cn import uscc as stdnum_uscc

from trace_engine.registry.regions import PROVINCE_ABBREVIATIONS
from trace_engine.registry.types import EnterpriseType


@dataclass(frozen=True, slots=True)
class Check:
    """Result of a check; ``bool(check)`` says whether it passed."""

    ok: bool
    reason_zh: str = ""
    reason_en: str = ""

    def __bool__(self) -> bool:
        return self.ok


OK = Check(True)

_USCC = re.compile(r"[0-9A-HJ-NPQRTUWXY]{2}[0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}")


def _bad(zh: str, en: str) -> Check:
    return Check(False, zh, en)


def check_uscc(text: str) -> Check:
    """Check a unified social credit code (18 characters, GB 32100-2015)."""
    if not text.isascii():
        return _bad("含全角或非ASCII字符", "holds characters outside ASCII")
    if len(text) != 18:
        return _bad(f"应为18位，实为{len(text)}位", f"has {len(text)} characters, not 18")
    if not _USCC.fullmatch(text):
        return _bad(
            "含不允许的字符（只用数字和大写字母，不用I、O、S、V、Z，第3至8位为数字）",
            "holds a character that is not allowed (capitals but I, O, S, V, Z; digits in 3 to 8)",
        )
    # The library's own validation refuses letters in the first two places (N2 and Y1 are issued).
    expected = stdnum_uscc.calc_check_digit(text[:17])
    if text[17] != expected:
        return _bad(f"校验位应为{expected}", f"check character should be {expected}")
    return OK


_USCC_ALPHABET = b"0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = np.array([pow(3, place, 31) for place in range(17)], np.int64)  # GB 32100


def certainly_uscc(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return which texts of a column are valid credit codes, shape ``(len(values),)``.

    The fast form of :func:`check_uscc` for whole columns; it gives no reasons.
    """
    shaped = pc.match_substring_regex(values, f"^{_USCC.pattern}$").fill_null(False)
    rows = np.flatnonzero(np.asarray(shaped, np.bool_))
    out = np.zeros(len(values), np.bool_)
    if len(rows):
        texts = values.take(pa.array(rows)).to_pylist()
        symbols = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(-1, 18)
        worth = np.zeros(256, np.int64)
        worth[np.frombuffer(_USCC_ALPHABET, np.uint8)] = np.arange(31)
        digits = worth[symbols]
        out[rows] = (digits[:, :17] @ _USCC_WEIGHTS + digits[:, 17]) % 31 == 0
    return out


# Drug distribution licences: province, business (A wholesale, B chain headquarters, C chain store,
# D single pharmacy), legal form (A legal person, B not), area code, serial. Rule of 2024 (order 84,
# article 76): 4 + 5 digits; before: 3 + 4 digits, in force until the last one expires (2029).
_DISTRIBUTION = re.compile(rf"([{''.join(PROVINCE_ABBREVIATIONS)}])([ABCD])([AB])([0-9]+)")
# Manufacturing licences: province, year of issue, serial (and a classification after 2020).
_MANUFACTURING = re.compile(
    rf"([{''.join(PROVINCE_ABBREVIATIONS)}])((?:19|20)[0-9]{{2}})([0-9]{{4}})[A-Za-z]*"
)

_LETTER_TYPES: dict[str, frozenset[EnterpriseType]] = {
    "A": frozenset({EnterpriseType.WHOLESALER, EnterpriseType.MAH, EnterpriseType.LOGISTICS}),
    "B": frozenset({EnterpriseType.CHAIN_HQ}),
    "C": frozenset({EnterpriseType.CHAIN_STORE}),
    "D": frozenset({EnterpriseType.PHARMACY}),
}
_LETTER_ZH = {"A": "批发", "B": "零售连锁总部", "C": "零售连锁门店", "D": "单体零售"}
_DISTRIBUTORS = frozenset().union(*_LETTER_TYPES.values()) - {EnterpriseType.MAH}
_MAKERS = frozenset({EnterpriseType.MAH, EnterpriseType.MANUFACTURER})


def check_licence(text: str, kind: EnterpriseType = EnterpriseType.UNKNOWN) -> Check:
    """Check a drug licence number, old or new format, and its letter against the type ``kind``.

    Distribution licences for distributors, manufacturing licences for makers; for medical
    institutions and platforms (other authorities' numbers) anything that is not empty passes.
    """
    if not text:
        return _bad("许可证编号为空", "is empty")
    if kind in _DISTRIBUTORS or kind in _MAKERS or kind == EnterpriseType.UNKNOWN:
        match = _DISTRIBUTION.fullmatch(text)
        if match is not None:
            return _check_distribution(match, kind)
        if _MANUFACTURING.fullmatch(text):
            if kind in _DISTRIBUTORS:
                return _bad("是生产许可证编号，与企业类型不符", "is a manufacturing licence number")
            return OK
        return _bad(
            "应为省份简称+两位字母+9位数字（旧证7位），或省份简称+年份+4位数字",
            "should be province + two letters + 9 digits (7 before 2024), or province + year + 4",
        )
    return OK


def certainly_licence(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return which texts of a column have the form of a licence number, shape ``(len(values),)``.

    The fast form of :func:`check_licence` without a type; it gives no reasons, and what it does not
    recognise must still be asked of that.
    """
    provinces = "".join(PROVINCE_ABBREVIATIONS)
    pattern = f"^[{provinces}]([ABCD][AB]([0-9]{{7}}|[0-9]{{9}})|(19|20)[0-9]{{6}}[A-Za-z]*)$"
    matched = pc.match_substring_regex(values, pattern).fill_null(False)
    return np.asarray(matched, np.bool_)


def _check_distribution(match: re.Match[str], kind: EnterpriseType) -> Check:
    digits = len(match[4])
    if digits not in (7, 9):
        return _bad(f"数字应为9位（旧证7位），实为{digits}位", f"has {digits} digits, not 9 (or 7)")
    if kind != EnterpriseType.UNKNOWN and kind not in _LETTER_TYPES[match[2]]:
        return _bad(
            f"字母{match[2]}表示{_LETTER_ZH[match[2]]}，与企业类型不符",
            f"letter {match[2]} does not fit the type {kind.contract_name}",
        )
    return OK


def licence_province(text: str) -> int:
    """Return the province (two digits) a licence number opens with, or 0."""
    return PROVINCE_ABBREVIATIONS.get(text[:1], 0)


# Letter: H chemical, Z traditional, S biological, J imported and repackaged, T in vitro diagnostic,
# F excipient, B health drug; since 2020 C after it for Hong Kong, Macao and Taiwan, J for overseas.
_APPROVAL = re.compile(r"国药准字(?:[HZSJTFB]|[HZS][CJ])[0-9]{8}")
_IMPORT = re.compile(r"(?:进口药品注册证号|医药产品注册证号)?[:：]?[HZSB]C?[0-9]{8}")
_PREPARATION = re.compile(rf"[{''.join(PROVINCE_ABBREVIATIONS)}]药制(?:备)?字[HZS][0-9]{{8,14}}")


def check_approval(text: str) -> Check:
    """Check a drug approval number (国药准字…), an older import licence or a hospital's number."""
    compact = text.replace(" ", "")
    if any(p.fullmatch(compact) for p in (_APPROVAL, _IMPORT, _PREPARATION)):
        return OK
    return _bad(
        "应为国药准字+字母+8位数字，或进口药品注册证号",
        "should be 国药准字 + letter + 8 digits, or an import licence number",
    )


def gs1_check_digit(body: str) -> str:
    """Return the GS1 mod-10 check digit of ``body`` (digits): weights 3, 1, 3, … from the right."""
    total = sum(
        int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body))
    )
    return str(-total % 10)


def _check_gs1(text: str, lengths: tuple[int, ...]) -> Check:
    if not (text.isascii() and text.isdigit()):
        return _bad("应只含ASCII数字", "should hold ASCII digits only")
    if len(text) not in lengths:
        wanted = "、".join(str(n) for n in lengths)
        return _bad(
            f"应为{wanted}位，实为{len(text)}位",
            f"has {len(text)} digits, not {' or '.join(str(n) for n in lengths)}",
        )
    expected = gs1_check_digit(text[:-1])
    if text[-1] != expected:
        return _bad(f"校验位应为{expected}", f"check digit should be {expected}")
    return OK


def check_gtin(text: str) -> Check:
    """Check a GTIN of 8, 12, 13 or 14 digits (GS1 mod-10)."""
    return _check_gs1(text, (8, 12, 13, 14))


def check_sscc(text: str) -> Check:
    """Check a serial shipping container code: 18 digits, GS1 mod-10."""
    return _check_gs1(text, (18,))


def check_standard_code(text: str) -> Check:
    """Check a national drug code (本位码): 14 digits beginning with 869, GS1 mod-10 (GB 18937)."""
    if text.isascii() and text.isdigit() and len(text) == 14 and not text.startswith("869"):
        return _bad("应以869开头（国别86、药品9）", "should begin with 869 (China, drugs)")
    return _check_gs1(text, (14,))


def check_national_code(text: str) -> Check:
    """Check the structure of a 20-digit trace code: ASCII digits, header 8.

    The last four digits are encrypted check digits whose rule is not public, so they pass.
    """
    if not (text.isascii() and text.isdigit()):
        return _bad("应只含ASCII数字", "should hold ASCII digits only")
    if len(text) != 20:
        return _bad(f"应为20位，实为{len(text)}位", f"has {len(text)} digits, not 20")
    if text[0] != "8":
        return _bad(f"码头应为8，实为{text[0]}", f"should begin with 8, not {text[0]}")
    return OK


def check_region(text: str) -> Check:
    """Check a GB/T 2260 code against the shipped table (past and present codes)."""
    from trace_engine.registry.regions import load_regions

    if load_regions().known(text):
        return OK
    if not re.fullmatch(r"[0-9]{6}", text):
        return _bad("应为6位数字", "should be 6 digits")
    return _bad("不在GB/T 2260历年代码中", "is in no edition of GB/T 2260")

"""Trace codes: what a printed code is, its identity and the identifier of the product in it.

NMPAB/T 1002-2019 allows two forms: 20 digits of which the first seven are the product identifier
(the national platforms' codes begin with 8), or a code by an ISO standard, in practice GS1 element
strings. Everything else is kept as a code of its own kind. The last four digits of a national code
are a check that is not public, so only structure is judged.

Identity of a GS1 code is product and serial, never the raw element string: the same pack printed
with batch and expiry in another order, or read with other separators, is one code. Where the string
holds no serial (seen in the field: ``01`` + GTIN, ``10`` + batch, ``17`` + expiry), nothing
tells one pack of a batch from another; all its elements together are then the identity, so that
packs of two batches never share a key, and packs of one batch cannot be told apart by anybody.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from trace_engine.events.batch import CODE_CHECK_DIGIT, CODE_HEADER, CODE_STRUCTURE

FNC1 = "\x1d"


class CodeSystem(IntEnum):
    """Who coined a code."""

    NATIONAL = 0  # 20 digits
    GS1 = 1  # GTIN with serial or other elements
    SSCC = 2  # GS1 logistic unit
    OTHER = 3


class ParsedCode(NamedTuple):
    """A code taken apart. ``identity`` is equal just for prints of one and the same code."""

    system: CodeSystem
    identity: str
    identifier: str  # first 7 digits or GTIN-14; empty if the code holds none
    problem: int  # bits CODE_STRUCTURE, CODE_CHECK_DIGIT, CODE_HEADER of events.batch


# Lengths of the values of fixed-length application identifiers (GS1 General Specifications, 3.2).
_FIXED: dict[str, int] = {
    "00": 18, "01": 14, "02": 14, "11": 6, "12": 6, "13": 6, "15": 6, "16": 6, "17": 6, "20": 2,
}  # fmt: skip
# Longest values of variable-length ones that occur on medicines.
_VARIABLE: dict[str, int] = {
    "10": 20, "21": 20, "22": 20, "30": 8, "37": 8, "90": 30, "91": 90, "92": 90, "93": 90,
    "94": 90, "95": 90, "96": 90, "97": 90, "98": 90, "99": 90, "240": 30, "241": 30, "250": 30,
    "400": 30, "710": 20, "711": 20, "712": 20, "713": 20, "714": 20, "715": 20,
}  # fmt: skip

_NATIONAL = re.compile(r"[0-9]{20}")
_SPREADSHEET = re.compile(r'="([!-~]+)"|\'([!-~]+)')
_SCIENTIFIC = re.compile(r"[0-9](?:\.[0-9]+)?[eE]\+?[0-9]{2}")
_SYMBOLOGY = re.compile(r"\](?:C1|d2|Q3|e0|J1)")
_BRACKETED = re.compile(r"\(([0-9]{2,4})\)")
# Characters of GB/T 1988 table 2 / GS1 set 82 that a code may hold.
_VALUE = re.compile(r"[!\"%&'()*+,\-./0-9:;<=>?A-Z_a-z]+")
_PLAUSIBLE = re.compile(r"[!-~]{8,64}")
# A national code with a character lost, added or misread: it begins like one (the header 8 and the
# rest of the identifier) and has about its length, but is not 20 digits.
_DAMAGED_NATIONAL = re.compile(r"8[0-9]{6}[!-~]{10,16}")
# A GS1 code that is none: it begins as only GS1 codes do, with the bracketed identifier of a GTIN
# or SSCC, but its elements do not hold (a GTIN of 13 or 15 digits, or with a letter).
_DAMAGED_GS1 = re.compile(r"\(0[012]\).*")
_DATE = re.compile(r"[0-9]{2}(?:0[1-9]|1[0-2])(?:[0-2][0-9]|3[01])")


def check_digit_ok(digits: str) -> bool:
    """Return whether the last digit is the GS1 mod-10 check digit of those before."""
    total = sum(
        int(digit) * (3 if i % 2 == 0 else 1) for i, digit in enumerate(reversed(digits[:-1]))
    )
    return (10 - total % 10) % 10 == int(digits[-1])


def lost_digits(text: str) -> bool:
    """Return whether a spreadsheet has rounded the code (8.02176E+19): it names no pack any more."""
    return _SCIENTIFIC.fullmatch(text.strip()) is not None


def parse_code(text: str) -> ParsedCode:
    """Take a printed code apart. Never fails: what is no known code is OTHER, with its problem.

    Full-width digits are not digits: such a code keeps its text and has a structure problem.
    """
    text = text.strip(" \t\r\n\v\f\ufeff")
    wrapped = _SPREADSHEET.fullmatch(text)
    if wrapped:  # how spreadsheets are kept from turning codes into numbers
        text = wrapped[1] or wrapped[2]
    if _NATIONAL.fullmatch(text):
        if text[0] == "8":
            return ParsedCode(CodeSystem.NATIONAL, text, text[:7], 0)
        return _sscc_or_headless(text)
    raw = _SYMBOLOGY.sub("", text, count=1) if text.startswith("]") else text
    if raw.startswith("("):
        elements = _bracketed(raw)
    else:
        elements = _separated(raw.lstrip(FNC1))
    if elements is None:
        return _other(text)
    return _from_elements(elements, text)


def _sscc_or_headless(text: str) -> ParsedCode:
    """Twenty digits not beginning with 8: an SSCC where its check digit says so."""
    if text.startswith("00") and check_digit_ok(text[2:]):
        return ParsedCode(CodeSystem.SSCC, f"(00){text[2:]}", "", 0)
    return ParsedCode(CodeSystem.NATIONAL, text, text[:7], CODE_HEADER)


def _other(text: str) -> ParsedCode:
    damaged = _DAMAGED_NATIONAL.fullmatch(text) or _DAMAGED_GS1.fullmatch(text)
    problem = 0 if _PLAUSIBLE.fullmatch(text) and not damaged else CODE_STRUCTURE
    # GS1 identities begin with a bracket: no other code's may, or the two could share a key.
    identity = f"\\{text}" if text.startswith(("(", "\\")) else text
    return ParsedCode(CodeSystem.OTHER, identity, "", problem)


def _identity(elements: list[tuple[str, str]]) -> str:
    """Join elements so that different ones never give the same text: values may hold brackets."""
    return "".join(
        f"({ai})" + value.replace("(", "\\(").replace(")", "\\)") for ai, value in elements
    )


def _from_elements(elements: list[tuple[str, str]], text: str) -> ParsedCode:
    values = dict(elements)
    if len(values) != len(elements):
        return _other(text)
    sscc = values.get("00")
    if sscc is not None and "01" not in values:
        problem = 0 if check_digit_ok(sscc) else CODE_CHECK_DIGIT
        return ParsedCode(CodeSystem.SSCC, f"(00){sscc}", "", problem)
    gtin = values.get("01")
    if gtin is None:
        return _other(text)
    problem = 0 if check_digit_ok(gtin) else CODE_CHECK_DIGIT
    serial = values.get("21")
    if serial is not None:
        identity = _identity([("01", gtin), ("21", serial)])
    else:
        identity = _identity(sorted(elements))
        if set(values) == {"01"}:
            problem |= CODE_STRUCTURE  # a product number alone names no pack
    return ParsedCode(CodeSystem.GS1, identity, gtin, problem)


def _valid(ai: str, value: str) -> bool:
    fixed = _FIXED.get(ai)
    if fixed is not None:
        if len(value) != fixed or not (value.isascii() and value.isdigit()):
            return False
        return ai not in ("11", "12", "13", "15", "16", "17") or bool(_DATE.fullmatch(value))
    longest = _VARIABLE.get(ai)
    return longest is not None and 0 < len(value) <= longest and bool(_VALUE.fullmatch(value))


def _bracketed(raw: str) -> list[tuple[str, str]] | None:
    """Parse the human-readable form ``(01)...(21)...``; None if it is not one."""
    pieces = _BRACKETED.split(raw)
    if pieces[0]:
        return None
    elements = [
        (ai, value.strip(FNC1).strip())
        for ai, value in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    return elements if elements and all(_valid(ai, value) for ai, value in elements) else None


def _separated(raw: str) -> list[tuple[str, str]] | None:
    """Parse an element string, with FNC1 after values of free length or without any."""
    if not raw.startswith(("00", "01", "02")):
        return None
    if FNC1 not in raw:
        return _unseparated(raw)
    elements: list[tuple[str, str]] = []
    for group in raw.rstrip(FNC1).split(FNC1):
        rest = group
        while rest:
            ai = next((rest[:n] for n in (2, 3) if rest[:n] in _FIXED or rest[:n] in _VARIABLE), "")
            if not ai:
                return None
            length = _FIXED.get(ai)
            value = rest[len(ai) :] if length is None else rest[len(ai) : len(ai) + length]
            rest = rest[len(ai) + len(value) :]
            if not _valid(ai, value):
                return None
            elements.append((ai, value))
    return elements or None


def _unseparated(raw: str) -> list[tuple[str, str]] | None:
    """Parse an element string without separators.

    Fixed-length elements are taken from the left; the first of free length takes the rest. Dates
    anchored at the right end are cut off a batch, and off a serial that would be too long with
    them. A value of AI 10 or 21 that is still longer than 20 characters is split at the other of
    the two where just one split is possible.
    """
    elements: list[tuple[str, str]] = []
    rest = raw
    while rest:
        ai = rest[:2]
        length = _FIXED.get(ai)
        if length is None:
            break
        value = rest[2 : 2 + length]
        if not _valid(ai, value):
            return None
        elements.append((ai, value))
        rest = rest[2 + length :]
    if not rest:
        return elements
    ai = next((rest[:n] for n in (2, 3) if rest[:n] in _VARIABLE), "")
    rest = rest[len(ai) :]
    if ai not in ("10", "21") or (ai == "21" and _valid(ai, rest)):
        # A serial is never shortened: running serials may end in what reads like 17 and a date,
        # and all packs of that month would become one.
        return [*elements, (ai, rest)] if _valid(ai, rest) else None
    tail: list[tuple[str, str]] = []
    while len(rest) > 8 and rest[-8:-6] in ("11", "17") and _DATE.fullmatch(rest[-6:]):
        if any(rest[-8:-6] == name for name, _ in (*elements, *tail)):
            break
        tail.append((rest[-8:-6], rest[-6:]))
        rest = rest[:-8]
    middle = _split_two(ai, rest)
    if middle is None:
        return None
    return elements + middle + tail


def _split_two(ai: str, rest: str) -> list[tuple[str, str]] | None:
    """Split ``rest`` (value of AI ``ai``, perhaps followed by 10 or 21) where only one way exists."""
    if _valid(ai, rest):
        # Greedy: a batch or serial may itself hold the digits 10 or 21, so the whole is its value
        # as long as that is allowed. See the module's note on what cannot be told apart.
        return [(ai, rest)]
    other = "21" if ai == "10" else "10"
    splits = [
        i
        for i in range(1, len(rest) - 2)
        if rest[i : i + 2] == other and _valid(ai, rest[:i]) and _valid(other, rest[i + 2 :])
    ]
    if len(splits) != 1:
        return None
    i = splits[0]
    return [(ai, rest[:i]), (other, rest[i + 2 :])]

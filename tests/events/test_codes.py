from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.arrays import margins, shaped, shapes
from trace_engine.events.batch import (
    CODE_CHECK_DIGIT,
    CODE_HEADER,
    CODE_STRUCTURE,
    NATIONAL_LIMIT,
    Vocabulary,
)
from trace_engine.events.codekeys import CodeKeys
from trace_engine.events.codes import CodeSystem, check_digit_ok, lost_digits, parse_code
from trace_engine.events.texts import text_column

GTIN = "06970593810109"
FNC1 = "\x1d"


def gtin(body: int) -> str:
    digits = f"{body:013d}"
    return next(digits + str(d) for d in range(10) if check_digit_ok(digits + str(d)))


@pytest.mark.parametrize(
    ("text", "system", "identity", "identifier", "problem"),
    [
        ("80217619000000001003", CodeSystem.NATIONAL, None, "8021761", 0),
        (" 80217619000000001003\t", CodeSystem.NATIONAL, "80217619000000001003", "8021761", 0),
        ('="80217619000000001003"', CodeSystem.NATIONAL, "80217619000000001003", "8021761", 0),
        ("'80217619000000001003", CodeSystem.NATIONAL, "80217619000000001003", "8021761", 0),
        ("70217619000000001003", CodeSystem.NATIONAL, None, "7021761", CODE_HEADER),
        ("8021761900000000100", CodeSystem.OTHER, None, "", CODE_STRUCTURE),
        ("ENT-2024-000123456", CodeSystem.OTHER, None, "", 0),
        ("８0217619000000001003", CodeSystem.OTHER, None, "", CODE_STRUCTURE),
        ("8021761900000000100Ａ", CodeSystem.OTHER, None, "", CODE_STRUCTURE),
        ("123", CodeSystem.OTHER, None, "", CODE_STRUCTURE),
        ("追溯码", CodeSystem.OTHER, None, "", CODE_STRUCTURE),
        (f"01{GTIN}21ABC{FNC1}10B1", CodeSystem.GS1, f"(01){GTIN}(21)ABC", GTIN, 0),
        (f"01{GTIN}10B1{FNC1}21ABC", CodeSystem.GS1, f"(01){GTIN}(21)ABC", GTIN, 0),
        (f"]d201{GTIN}10B1{FNC1}21ABC", CodeSystem.GS1, f"(01){GTIN}(21)ABC", GTIN, 0),
        (f"]C101{GTIN}17230527{FNC1}21ABC", CodeSystem.GS1, f"(01){GTIN}(21)ABC", GTIN, 0),
        (f"{FNC1}01{GTIN}1723052721ABC", CodeSystem.GS1, f"(01){GTIN}(21)ABC", GTIN, 0),
        (f"(01){GTIN}(17)230527(10)B1(21)ABC", CodeSystem.GS1, f"(01){GTIN}(21)ABC", GTIN, 0),
        (f"01{GTIN}21ABC17230527", CodeSystem.GS1, f"(01){GTIN}(21)ABC17230527", GTIN, 0),
        (f"01{GTIN}21ABC17230527{FNC1}", CodeSystem.GS1, f"(01){GTIN}(21)ABC17230527", GTIN, 0),
        (f"01{GTIN}21{'A' * 15}17230527", CodeSystem.GS1, f"(01){GTIN}(21){'A' * 15}", GTIN, 0),
        (f"01{GTIN}17230500" + "10B1", CodeSystem.GS1, f"(01){GTIN}(10)B1(17)230500", GTIN, 0),
        ("010697059381010910N053000117230527", CodeSystem.GS1,
         f"(01){GTIN}(10)N0530001(17)230527", GTIN, 0),
        (f"(01){GTIN[:-1]}0(21)A", CodeSystem.GS1, f"(01){GTIN[:-1]}0(21)A", GTIN[:-1] + "0",
         CODE_CHECK_DIGIT),
        (f"01{GTIN}", CodeSystem.GS1, f"(01){GTIN}", GTIN, CODE_STRUCTURE),
        ("00106141412345678908", CodeSystem.SSCC, "(00)106141412345678908", "", 0),
        ("(00)106141412345678908", CodeSystem.SSCC, "(00)106141412345678908", "", 0),
        ("(00)106141412345678900", CodeSystem.SSCC, "(00)106141412345678900", "", CODE_CHECK_DIGIT),
        (f"(01){GTIN}(21)", CodeSystem.OTHER, f"\\(01){GTIN}(21)", "", CODE_STRUCTURE),
        (f"(01){GTIN}(21)A(21)B", CodeSystem.OTHER, f"\\(01){GTIN}(21)A(21)B", "",
         CODE_STRUCTURE),
        # A digit of the GTIN lost or doubled, or read as a letter.
        (f"(01){GTIN[1:]}(21)A", CodeSystem.OTHER, f"\\(01){GTIN[1:]}(21)A", "", CODE_STRUCTURE),
        (f"(01)0{GTIN}(21)A", CodeSystem.OTHER, f"\\(01)0{GTIN}(21)A", "", CODE_STRUCTURE),
        (f"(01)S{GTIN[1:]}(21)A", CodeSystem.OTHER, f"\\(01)S{GTIN[1:]}(21)A", "", CODE_STRUCTURE),
        (f"01{GTIN}17991399", CodeSystem.OTHER, None, "", 0),
        (f"01{GTIN}55ABC", CodeSystem.OTHER, None, "", 0),
        ("(99)X", CodeSystem.OTHER, "\\(99)X", "", CODE_STRUCTURE),
    ],
)  # fmt: skip
def test_codes_of_the_field(
    text: str, system: CodeSystem, identity: str | None, identifier: str, problem: int
) -> None:
    assert parse_code(text) == (system, text if identity is None else identity, identifier, problem)


def test_a_serial_longer_than_allowed_is_split_where_one_way_exists() -> None:
    serial = "S" * 18
    parsed = parse_code(f"01{GTIN}21{serial}10LOT7")
    assert parsed.identity == f"(01){GTIN}(21){serial}"


def test_rounded_codes_are_known() -> None:
    assert lost_digits("8.02176E+19")
    assert lost_digits(" 8E+19 ")
    assert not lost_digits("80217619000000001003")
    assert not lost_digits("8E1900000000")


serials = st.text(
    st.sampled_from("!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcxyz"),
    min_size=1,
    max_size=20,
)
elements = st.dictionaries(
    st.sampled_from(["10", "17", "21", "11", "240"]), serials, min_size=1
).map(lambda e: {k: ("230527" if k in ("11", "17") else v) for k, v in e.items()})
gtins = st.integers(0, 10**13 - 1).map(gtin)


def printed(product: str, parts: dict[str, str], order: list[str]) -> str:
    """Return an element string with separators after every value."""
    return f"01{product}" + "".join(f"{ai}{parts[ai]}{FNC1}" for ai in order if ai in parts)


@given(product=gtins, parts=elements, order=st.permutations(["10", "17", "21", "11", "240"]))
def test_order_of_elements_does_not_matter(
    product: str, parts: dict[str, str], order: list[str]
) -> None:
    one = parse_code(printed(product, parts, order))
    other = parse_code("]d2" + printed(product, parts, sorted(order)))
    assert one.system == CodeSystem.GS1
    assert one == other
    assert one.identifier == product


@given(
    first=st.tuples(gtins, elements),
    second=st.tuples(gtins, elements),
    order=st.permutations(["10", "17", "21", "11", "240"]),
)
def test_different_packs_never_share_an_identity(
    first: tuple[str, dict[str, str]], second: tuple[str, dict[str, str]], order: list[str]
) -> None:
    def pack(product: str, parts: dict[str, str]) -> object:
        return (product, parts["21"]) if "21" in parts else (product, sorted(parts.items()))

    one, two = (parse_code(printed(p, parts, order)).identity for p, parts in (first, second))
    assert (one == two) == (pack(*first) == pack(*second))


@given(text=st.text(max_size=40), product=gtins, parts=elements)
def test_no_other_code_takes_the_identity_of_a_pack(
    text: str, product: str, parts: dict[str, str]
) -> None:
    identity = parse_code(printed(product, parts, sorted(parts))).identity
    for candidate in (text, identity, "\\" + identity, identity + text):
        parsed = parse_code(candidate)
        if parsed.system == CodeSystem.OTHER:
            assert parsed.identity != identity


codes = st.one_of(
    st.none(),
    st.integers(0, 10**19 - 1).map(lambda n: f"8{n:019d}"),
    st.integers(0, 10**20 - 1).map(lambda n: f"{n:020d}"),
    st.text("0123456789８(): ", max_size=22),
    st.tuples(gtins, serials).map(lambda p: f"01{p[0]}21{p[1]}"),
)


@given(values=st.lists(codes, max_size=25), shape=shapes, before=margins, behind=margins)
def test_keys_follow_identities(
    values: list[str | None], shape: pa.DataType, before: int, behind: int
) -> None:
    words = Vocabulary()
    read = CodeKeys(words).read(text_column(shaped(values, shape, before, behind)))
    by_identity: dict[str, int] = {}
    for i, value in enumerate(values):
        parsed = parse_code(value or "")
        assert read.absent[i] == (parsed.identity == "")
        if read.absent[i]:
            continue
        key = int(read.key[i])
        assert by_identity.setdefault(parsed.identity, key) == key
        assert words.code_text(key) == parsed.identity
        assert words.code_key(parsed.identity) == key
        assert read.problem[i] == parsed.problem
        assert words.drugs.text(int(read.drug[i])) == parsed.identifier
        assert (key < NATIONAL_LIMIT) == (
            parsed.system == CodeSystem.NATIONAL and parsed.problem == 0
        )
    assert len(set(by_identity.values())) == len(by_identity)


def test_largest_codes_fit() -> None:
    column = text_column(pa.array(["89999999999999999999", "80000000000000000000"]))
    read = CodeKeys(Vocabulary()).read(column)
    assert read.key.tolist() == [10**19 - 1, 0]
    assert read.key.dtype == np.uint64


def test_codeless_bills_share_one_key_that_no_code_has() -> None:
    words = Vocabulary()
    keys = CodeKeys(words)
    key = keys.absent_key()
    assert key == keys.absent_key() >= NATIONAL_LIMIT
    read = keys.read(text_column(pa.array(["x" * 10, "80217619000000001003"])))
    assert key not in read.key.tolist()
    assert words.code_text(key) == ""

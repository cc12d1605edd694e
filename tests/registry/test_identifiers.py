"""Check digits and formats, on known identifiers and on random ones spoilt in one place."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trace_engine.registry.identifiers import (
    certainly_uscc,
    check_approval,
    check_gtin,
    check_licence,
    check_national_code,
    check_region,
    check_sscc,
    check_standard_code,
    check_uscc,
    gs1_check_digit,
    licence_province,
)
from trace_engine.registry.types import EnterpriseType

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)


def uscc_character(body: str) -> str:
    """GB 32100 written out again, apart from the library the code uses."""
    total = sum(w * ALPHABET.index(c) for w, c in zip(WEIGHTS, body, strict=True))
    return ALPHABET[(31 - total % 31) % 31]


uscc_bodies = st.builds(
    lambda head, region, organisation: head + region + organisation,
    st.text(ALPHABET, min_size=2, max_size=2),
    st.text("0123456789", min_size=6, max_size=6),
    st.text(ALPHABET, min_size=9, max_size=9),
)


def test_a_known_credit_code_passes() -> None:
    assert check_uscc("91110108551385082Q")


@given(uscc_bodies)
def test_every_credit_code_with_its_check_character_passes(body: str) -> None:
    assert check_uscc(body + uscc_character(body))


@given(uscc_bodies, st.integers(0, 17), st.sampled_from(ALPHABET))
def test_one_changed_character_is_noticed(body: str, place: int, other: str) -> None:
    code = body + uscc_character(body)
    assume(code[place] != other)
    spoilt = code[:place] + other + code[place + 1 :]
    result = check_uscc(spoilt)
    assert not result
    assert result.reason_zh
    assert result.reason_en


@given(
    st.lists(
        st.one_of(
            st.none(),
            uscc_bodies.map(lambda body: body + uscc_character(body)),
            uscc_bodies.map(lambda body: body + "0"),
            st.text(max_size=20),
        ),
        max_size=8,
    )
)
def test_columns_are_checked_as_single_codes_are(codes: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(codes, pa.string())])
    assert certainly_uscc(column).tolist() == [bool(c) and bool(check_uscc(c)) for c in codes]


def test_the_reason_names_the_right_check_character() -> None:
    assert "Q" in check_uscc("911101085513850820").reason_zh


@pytest.mark.parametrize(
    "code",
    ["", "91110108551385082", "91110108551385082q", "９1110108551385082Q", "91110108551385O82Q",
     "9111 108551385082Q"],
)  # fmt: skip
def test_malformed_credit_codes_fail(code: str) -> None:
    assert not check_uscc(code)


@given(st.text("0123456789", min_size=7, max_size=13))
def test_gtin_check_digit(body: str) -> None:
    assume(len(body) in (7, 11, 12, 13))
    right = gs1_check_digit(body)
    assert check_gtin(body + right)
    wrong = str((int(right) + 1) % 10)
    assert right in check_gtin(body + wrong).reason_en


@given(st.text("0123456789", min_size=17, max_size=17), st.integers(0, 16), st.integers(1, 9))
def test_one_changed_digit_of_an_sscc_is_noticed(body: str, place: int, step: int) -> None:
    code = body + gs1_check_digit(body)
    assert check_sscc(code)
    digit = str((int(code[place]) + step) % 10)
    assert not check_sscc(code[:place] + digit + code[place + 1 :])


@pytest.mark.parametrize("code", ["06970593810109"])
def test_gtin_met_in_the_market(code: str) -> None:
    assert check_gtin(code)


@pytest.mark.parametrize("code", ["86901110000020", "86902884000629", "86900594000335"])
def test_standard_codes_met_in_the_market(code: str) -> None:
    assert check_standard_code(code)
    assert not check_standard_code(code[:-1] + str((int(code[-1]) + 1) % 10))


def test_a_standard_code_begins_with_869() -> None:
    body = "8690111000002"
    assert check_standard_code(body + gs1_check_digit(body))
    other = "8600111000002"
    assert "869" in check_standard_code(other + gs1_check_digit(other)).reason_en


@pytest.mark.parametrize(
    ("code", "fine"),
    [
        ("80217619000000001003", True),
        ("90217619000000001003", False),
        ("8021761900000000100", False),
        ("8021761900000000100３", False),
        ("8021761900000000100A", False),
    ],
)
def test_national_code_structure(code: str, fine: bool) -> None:
    assert bool(check_national_code(code)) is fine


@pytest.mark.parametrize(
    ("licence", "kind", "fine"),
    [
        ("琼AA898000001", EnterpriseType.WHOLESALER, True),  # new format
        ("豫AA3710001", EnterpriseType.WHOLESALER, True),  # old format
        ("豫AA3710001", EnterpriseType.PHARMACY, False),  # a wholesaler's letter
        ("鲁DA531000001", EnterpriseType.PHARMACY, True),
        ("鲁CB531000001", EnterpriseType.CHAIN_STORE, True),
        ("鲁BA531000001", EnterpriseType.CHAIN_HQ, True),
        ("鲁EA531000001", EnterpriseType.PHARMACY, False),
        ("台AA531000001", EnterpriseType.WHOLESALER, False),
        ("鲁AA53100001", EnterpriseType.WHOLESALER, False),  # 8 digits
        ("鲁20160001", EnterpriseType.MANUFACTURER, True),
        ("鲁20160001", EnterpriseType.WHOLESALER, False),
        ("PDY123", EnterpriseType.PUBLIC_HOSPITAL, True),  # another authority's number
        ("", EnterpriseType.PHARMACY, False),
    ],
)
def test_licence_formats(licence: str, kind: EnterpriseType, fine: bool) -> None:
    assert bool(check_licence(licence, kind)) is fine


def test_licence_province() -> None:
    assert licence_province("琼AA898000001") == 46
    assert licence_province("") == 0


@pytest.mark.parametrize(
    ("number", "fine"),
    [
        ("国药准字Z53021108", True),
        ("国药准字H20030413", True),
        ("国药准字HJ20200001", True),
        ("国药准字SC20200001", True),
        ("H20030413", True),  # import licence
        ("国药准字X20030413", False),
        ("国药准字H2003041", False),
        ("国食健字G20030413", False),
    ],
)
def test_approval_numbers(number: str, fine: bool) -> None:
    assert bool(check_approval(number)) is fine


@pytest.mark.parametrize(
    ("code", "fine"), [("370102", True), ("330104", True), ("370199", False), ("37010", False)]
)
def test_regions(code: str, fine: bool) -> None:
    assert bool(check_region(code)) is fine

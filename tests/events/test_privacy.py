from __future__ import annotations

import hashlib
import hmac
import re
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.events import privacy
from trace_engine.events.privacy import (
    Pseudonyms,
    is_identity_card,
    looks_personal,
    maybe_personal,
)
from trace_engine.events.texts import text_column

# 11010519491231002X is the example of GB 11643; the others are made up.
CARD = "11010519491231002X"


@pytest.mark.parametrize(
    "text",
    [
        CARD, CARD.lower(), "110105 19491231 002X", "１１０１０５１９４９１２３１００２Ｘ", "110105491231002",
        "E12345678", "EA1234567", "H1234567890", "13812345678", "+86 138-1234-5678",
        "8613812345678", "010-12345678", "123456789", "12345678901S", "11010519491231002",
        "张三 13812345678", f"id:{CARD};", "身份证" + CARD,
    ],
)  # fmt: skip
def test_numbers_of_persons_are_seen(text: str) -> None:
    assert looks_personal(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "P0000012345", "B0000000001", "u-123", "张三", "330100199912311234567",
        "p:" + "0" * 64, "a1b2c3d4e5f60718",
        hashlib.sha256(b"x").hexdigest(), hashlib.md5(b"y").hexdigest(), "buyer_000123456", "1234567",
        "0f8fad5b-d9cb-469f-a165-70867728950e", "E0001", "BUYER13812345678", "user.20240510",
    ],
)  # fmt: skip
def test_pseudonyms_are_left_alone(text: str) -> None:
    assert not looks_personal(text)


fragments = st.one_of(
    st.text("0123456789", min_size=1, max_size=21),
    st.text("0123456789０１Xx ABEHMab-+()_;:张", min_size=0, max_size=22),
    st.sampled_from([CARD, "13812345678", "110105491231002", "E12345678", "H1234567890"]),
)


@given(st.lists(fragments, min_size=1, max_size=3).map("".join))
def test_the_fast_look_misses_nothing(text: str) -> None:
    column = text_column(pa.array([text]))
    marked = np.empty(1, np.bool_)
    count = maybe_personal(column.offsets, column.data, column.valid, marked)
    assert count == marked[0]
    assert marked[0] or not looks_personal(text)


def test_the_fast_look_lets_usual_pseudonyms_pass() -> None:
    texts = [f"P{n:010d}" for n in range(50)] + [
        hashlib.sha256(b"%d" % n).hexdigest() for n in range(50)
    ]
    column = text_column(pa.array([*texts, None]))
    marked = np.empty(101, np.bool_)
    assert maybe_personal(column.offsets, column.data, column.valid, marked) == 0


def test_identity_cards_by_check_character() -> None:
    assert is_identity_card(CARD)
    assert not is_identity_card("110105194912310021")
    assert not is_identity_card("91110105194912310X")


def test_one_person_has_one_pseudonym_per_key() -> None:
    one, other = Pseudonyms(b"key"), Pseudonyms(b"other")
    expected = "p:" + hmac.new(b"key", CARD.encode(), "sha256").hexdigest()
    assert one.of(CARD) == one.of(" 110105-19491231-002x") == expected
    assert one.of(CARD) != other.of(CARD)
    assert not looks_personal(one.of(CARD))


def test_masks_keep_the_rest() -> None:
    secret = Pseudonyms(b"key")
    line = f"2024-05-10,201,80217619000000001003,{CARD},13812345678,3.50"
    masked = secret.mask(line)
    assert CARD not in masked
    assert "13812345678" not in masked
    assert masked.startswith("2024-05-10,201,80217619000000001003,p:")
    assert masked.endswith(",3.50")
    assert secret.mask("E12345678") == secret.of("E12345678")
    assert secret.mask_identity_cards(f"no {CARD} 138123456789012345") == (
        f"no {secret.of(CARD)} 138123456789012345"
    )


def test_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    privacy.default_key.cache_clear()
    monkeypatch.setenv(privacy.KEY_VARIABLE, "from outside")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pseudonyms().of("13812345678") == Pseudonyms(b"from outside").of("13812345678")
    privacy.default_key.cache_clear()


def test_without_a_key_one_is_made_up_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    privacy.default_key.cache_clear()
    monkeypatch.delenv(privacy.KEY_VARIABLE, raising=False)
    with pytest.warns(RuntimeWarning, match="will differ between runs"):
        first = Pseudonyms().of("13812345678")
    assert Pseudonyms().of("13812345678") == first
    assert re.fullmatch("p:[0-9a-f]{64}", first)
    privacy.default_key.cache_clear()
    with pytest.warns(RuntimeWarning):
        assert Pseudonyms().of("13812345678") != first
    privacy.default_key.cache_clear()

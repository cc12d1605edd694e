"""Personal values at the door: recognised, replaced by a keyed hash, never stored or logged.

Domain rule: the contract takes ``buyer_id`` as a pseudonym unless it looks like the number of an
identity card (GB 11643: 18 characters with a birth date, or the old 15 digits), a passport, an
insurance card or a phone. What looks like one becomes ``p:`` and 64 hex digits of HMAC-SHA-256. The
key comes from the environment, so that only who holds it can link pseudonyms to people.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import unicodedata
import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf

KEY_VARIABLE = "TRACE_ENGINE_HASH_KEY"
PREFIX = "p:"

_IDENTITY = r"[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]"
_MOBILE = r"1[3-9]\d{9}"
# A whole value, blanks and hyphens removed. Any run of 8 to 20 digits could be the number of an
# insurance card or a phone; hashing a pseudonym that happens to be a number does no harm.
_WHOLE = re.compile(
    rf"{_IDENTITY}|\d{{17}}[Xx]|\+?\d{{8,20}}|[A-Za-z]{{1,2}}\d{{7,8}}|[HMhm]\d{{10}}|\d{{9,12}}[A-Za-z]"
)
# Inside longer text only what can hardly be anything else.
_INSIDE = re.compile(rf"(?<![0-9A-Za-z])(?:{_IDENTITY}|\d{{15}}|{_MOBILE})(?![0-9A-Za-z])")
_SEPARATORS = re.compile(r"[\s\-()]+")
_IDENTITY_WORD = re.compile(rf"(?<![0-9A-Za-z]){_IDENTITY}(?![0-9A-Za-z])")
_IDENTITY_ONLY = re.compile(_IDENTITY)
_IDENTITY_LENGTH = 18
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # ISO 7064 MOD 11-2


class RandomKeyWarning(RuntimeWarning):
    """No key was given: pseudonyms of this process equal those of no other."""

    zh = f"未设置 {KEY_VARIABLE}：个人号码用随机密钥散列，各次运行的假名互不相同"


@lru_cache(maxsize=1)
def default_key() -> bytes:
    """Return the key of the environment, or a random one for this process with a warning."""
    chosen = os.environ.get(KEY_VARIABLE)
    if chosen:
        return chosen.encode()
    warnings.warn(
        f"{KEY_VARIABLE} is not set: personal numbers are hashed with a random key, "
        "so pseudonyms will differ between runs",
        RandomKeyWarning,
        stacklevel=2,
    )
    return secrets.token_bytes(32)


def _plain(text: str) -> str:
    """Full-width forms to ASCII, separators removed, upper case: one person, one pseudonym."""
    return _SEPARATORS.sub("", unicodedata.normalize("NFKC", text)).upper()


def looks_personal(text: str) -> bool:
    """Return whether ``text`` looks like an identity, passport, insurance or phone number."""
    plain = _plain(text)
    if _WHOLE.fullmatch(plain):
        return True
    return _INSIDE.search(unicodedata.normalize("NFKC", text)) is not None


def is_identity_card(text: str) -> bool:
    """Return whether ``text`` is an 18-character identity number with a right check character."""
    if len(text) < _IDENTITY_LENGTH and text.isascii():  # most: normalising ASCII never lengthens
        return False
    plain = _plain(text)
    if not _IDENTITY_ONLY.fullmatch(plain):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(plain, _WEIGHTS, strict=False))
    return plain[17] == "10X98765432"[total % 11]


class Pseudonyms:
    """Keyed hashes of personal values. The key is looked up when the first one is met."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    def of(self, text: str) -> str:
        """Return ``p:`` and the HMAC-SHA-256 of ``text``, equal however it was spaced."""
        if self._key is None:
            self._key = default_key()
        return PREFIX + hmac.digest(self._key, _plain(text).encode(), "sha256").hex()

    def mask(self, text: str) -> str:
        """Return ``text`` fit for rejects and logs: numbers of persons in it become pseudonyms."""
        if _WHOLE.fullmatch(_plain(text)):
            return self.of(text)
        return self.mask_inside(text)

    def mask_inside(self, text: str) -> str:
        """Return ``text`` with identity cards, 15-digit cards and mobile numbers replaced.

        For columns that are not about persons, where a date or an amount may be all digits.
        """
        plain = unicodedata.normalize("NFKC", text)
        return _INSIDE.sub(lambda found: self.of(found[0]), plain)

    def mask_identity_cards(self, text: str) -> str:
        """Return ``text`` with identity numbers (check character right) replaced, all else kept.

        For columns that hold long numbers of other kinds: bills, orders, enterprises.
        """
        return _IDENTITY_WORD.sub(
            lambda found: self.of(found[0]) if is_identity_card(found[0]) else found[0], text
        )


@leaf
def _is_letter(byte: int) -> bool:
    return (65 <= byte <= 90) or (97 <= byte <= 122)


@leaf
def _may_be_personal(data: npt.NDArray[np.uint8], start: int, end: int) -> bool:
    before = 0  # letters in front of the first digit
    digits = 0
    after = 0  # letters behind a digit
    others = False
    i = start
    while i < end:
        byte = data[i]
        if byte >= 128:
            return True
        if 48 <= byte <= 57:
            first = i
            while i < end and 48 <= data[i] <= 57:
                i += 1
            run = i - first
            digits += run
            # Inside longer text: a number of the right length that stands alone.
            if run == 11 or run == 15 or run == 17 or run == 18:
                bounded = first == start or not _is_letter(data[first - 1])
                if bounded and (run == 17 or i == end or not _is_letter(data[i])):
                    return True
            continue
        if _is_letter(byte):
            if digits == 0:
                before += 1
            else:
                after += 1
        elif byte > 32 and byte != 45 and byte != 40 and byte != 41 and byte != 43:
            others = True
        i += 1
    if others:
        return False
    if before == 0:
        return (after == 0 and 8 <= digits <= 20) or (
            after == 1 and (digits == 17 or 9 <= digits <= 12)
        )
    if after > 0:
        return False
    if before == 1 and digits == 10:  # a pass of Hong Kong or Macao
        letter = data[start]
        return (
            letter == 72 or letter == 77 or letter == 104 or letter == 109 or not _is_letter(letter)
        )
    return before <= 2 and 7 <= digits <= 8


@kernel
def maybe_personal(
    offsets: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    out: npt.NDArray[np.bool_],
) -> int:
    """Mark the texts that :func:`looks_personal` has to look at; returns how many.

    Marks every text that looks personal, and few others: this is what lets millions of pseudonyms
    pass without a look at each. ``offsets`` ``(n + 1,)``, ``valid`` ``(n,)`` or empty, ``out``
    ``(n,)``.
    """
    count = 0
    for row in range(len(offsets) - 1):
        out[row] = False
        if len(valid) > 0 and not valid[row]:
            continue
        if _may_be_personal(data, offsets[row], offsets[row + 1]):
            out[row] = True
            count += 1
    return count

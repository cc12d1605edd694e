"""Trace codes of the simulated market as 64-bit numbers, and their printed form.

* national code ``8`` + 19 digits (7-digit identifier, 9-digit serial, 4 check digits): the number
  of its last 19 digits. The four check digits are encrypted in reality and not computable; here
  they are a hash of the rest, so that they look as irregular as real ones.
* GS1 ``(01)`` + GTIN-14 + ``(21)`` + 12-digit serial: ``GS1_BASE`` + drug × 10^12 + serial. Some
  scanners leave the brackets out: one code, two spellings.
* anything else (typing errors): ``OTHER_BASE`` + its number in a list of texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

GS1_BASE = 10**19
OTHER_BASE = 18 * 10**18
SERIALS = 10**9
UInt64 = npt.NDArray[np.uint64]


def _mix(values: UInt64) -> UInt64:
    """Return a 64-bit hash of each value (the finaliser of SplitMix64)."""
    x = values.copy()
    with np.errstate(over="ignore"):
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


def mix(values: npt.NDArray[np.int64]) -> UInt64:
    """Return a 64-bit hash of each (non-negative) number."""
    return _mix(values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15 % 2**63))


def national(identifier: npt.NDArray[np.int64], serial: npt.NDArray[np.int64]) -> UInt64:
    """Return codes of drugs with 7-digit ``identifier`` (beginning with 8) and 9-digit serials."""
    return checked(
        (identifier % 1_000_000).astype(np.uint64) * np.uint64(SERIALS) + serial.astype(np.uint64)
    )


def checked(head: UInt64) -> UInt64:
    """Return national codes of identifier and serial (15 digits): their check digits added."""
    return head * np.uint64(10_000) + _mix(head) % np.uint64(10_000)


def gs1(drug: npt.NDArray[np.int64], serial: npt.NDArray[np.int64]) -> UInt64:
    """Return codes of the drugs numbered ``drug`` with serials below 10^12."""
    return np.uint64(GS1_BASE) + (drug * 10**12 + serial).astype(np.uint64)


def digits(values: npt.NDArray[np.uint64], width: int, prefix: bytes) -> npt.NDArray[np.uint8]:
    """Return ``prefix`` + zero-padded digits as bytes, shape ``(n, len(prefix) + width)``."""
    out = np.empty((len(values), len(prefix) + width), np.uint8)
    out[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    rest = values.astype(np.uint64, copy=True)
    column = out.shape[1]
    # Nine digits at a time fit 32 bits, where division is several times faster.
    while column > len(prefix):
        span = min(9, column - len(prefix))
        high = rest // np.uint64(10**span)
        low = (rest - high * np.uint64(10**span)).astype(np.uint32)
        rest = high
        for _ in range(span):
            column -= 1
            tenth = low // np.uint32(10)
            out[:, column] = (low - tenth * np.uint32(10)).astype(np.uint8) + 48
            low = tenth
    return out


def text_array(
    characters: npt.NDArray[np.uint8], present: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Return an Arrow string array of fixed-width texts, null where not ``present``."""
    count, width = characters.shape
    offsets = np.arange(count + 1, dtype=np.int32) * width
    validity = None
    if present is not None:
        validity = pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    return pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets), pa.py_buffer(characters.tobytes()), validity
    )


def sparse_array(characters: npt.NDArray[np.uint8], present: npt.NDArray[np.bool_]) -> pa.Array:
    """Return an Arrow string array with the texts at ``present`` and null elsewhere."""
    offsets = np.zeros(len(present) + 1, np.int32)
    np.cumsum(present, dtype=np.int32, out=offsets[1:])
    offsets *= characters.shape[1]
    validity = pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    return pa.StringArray.from_buffers(
        len(present), pa.py_buffer(offsets), pa.py_buffer(characters.tobytes()), validity
    )


def gtin(body: str) -> str:
    """Return the GTIN-14 of 13 digits with its GS1 mod-10 check digit."""
    total = sum(int(c) * (3 if i % 2 == 0 else 1) for i, c in enumerate(body))
    return body + str(-total % 10)


def code_texts(
    codes: UInt64,
    gtins: Sequence[str],
    others: Sequence[str],
    bare: npt.NDArray[np.bool_] | None = None,
) -> pa.Array:
    """Return the printed form of ``codes`` (``gtins`` by drug number, ``others`` by number).

    ``bare`` says which GS1 codes are printed without brackets; none by default.
    """
    plain = codes < np.uint64(GS1_BASE)
    result = text_array(digits(np.where(plain, codes, np.uint64(0)), 19, b"8"))
    if plain.all():
        return result
    rare = np.flatnonzero(~plain)
    unbracketed = np.zeros(len(rare), np.bool_) if bare is None else bare[rare]
    texts = []
    for value, naked in zip(codes[rare].tolist(), unbracketed.tolist(), strict=True):
        if value >= OTHER_BASE:
            texts.append(others[value - OTHER_BASE])
            continue
        drug, serial = divmod(value - GS1_BASE, 10**12)
        first, second = ("01", "21") if naked else ("(01)", "(21)")
        texts.append(f"{first}{gtins[drug]}{second}{serial:012d}")
    mask = pa.array(~plain)
    return pc.replace_with_mask(result, mask, pa.array(texts, pa.string()))

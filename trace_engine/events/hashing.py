"""64-bit hashes of texts (XXH64, seed 0) and of the content of whole events.

XXH64 is specified at https://github.com/Cyan4973/xxHash (doc/xxhash_spec.md): fast, well mixed, the
same on every machine, so that keys, checkpoints and findings agree between engines. It is not a
cryptographic hash: nothing secret rests on it (see ``privacy`` for that). 0 means "no text".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf

if TYPE_CHECKING:
    from trace_engine.events.batch import EventBatch, Interner, Vocabulary

UInt64 = npt.NDArray[np.uint64]

_U = np.uint64
_P1 = _U(0x9E3779B185EBCA87)
_P2 = _U(0xC2B2AE3D27D4EB4F)
_P3 = _U(0x165667B19E3779F9)
_P4 = _U(0x85EBCA77C2B2AE63)
_P5 = _U(0x27D4EB2F165667C5)
_MASK = 0xFFFFFFFFFFFFFFFF
_ZERO_STANDS_FOR = _U(0x9E3779B97F4A7C15)  # what a hash that happens to be 0 becomes


@leaf
def load8(data: npt.NDArray[np.uint8], i: np.uint64) -> np.uint64:
    """Return 8 bytes from ``i`` on, little-endian (the compiler makes one load of it)."""
    u = np.uint64
    return (
        u(data[i])
        | (u(data[i + u(1)]) << u(8))
        | (u(data[i + u(2)]) << u(16))
        | (u(data[i + u(3)]) << u(24))
        | (u(data[i + u(4)]) << u(32))
        | (u(data[i + u(5)]) << u(40))
        | (u(data[i + u(6)]) << u(48))
        | (u(data[i + u(7)]) << u(56))
    )


@leaf
def load4(data: npt.NDArray[np.uint8], i: np.uint64) -> np.uint64:
    """Return 4 bytes from ``i`` on, little-endian."""
    u = np.uint64
    return (
        u(data[i])
        | (u(data[i + u(1)]) << u(8))
        | (u(data[i + u(2)]) << u(16))
        | (u(data[i + u(3)]) << u(24))
    )


@leaf
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@leaf
def _round(accumulator: np.uint64, lane: np.uint64) -> np.uint64:
    return _rotate(accumulator + lane * _P2, 31) * _P1


@leaf
def hash_bytes(data: npt.NDArray[np.uint8], start: np.uint64, end: np.uint64) -> np.uint64:
    """Return XXH64 of ``data[start:end]``; never 0."""
    u = np.uint64
    i = start
    length = end - start
    if length >= u(32):
        v1 = _P1 + _P2
        v2 = _P2
        v3 = u(0)
        v4 = u(0) - _P1
        while i + u(32) <= end:
            v1 = _round(v1, load8(data, i))
            v2 = _round(v2, load8(data, i + u(8)))
            v3 = _round(v3, load8(data, i + u(16)))
            v4 = _round(v4, load8(data, i + u(24)))
            i += u(32)
        h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
        h = (h ^ _round(u(0), v1)) * _P1 + _P4
        h = (h ^ _round(u(0), v2)) * _P1 + _P4
        h = (h ^ _round(u(0), v3)) * _P1 + _P4
        h = (h ^ _round(u(0), v4)) * _P1 + _P4
    else:
        h = _P5
    h += length
    while i + u(8) <= end:
        h = _rotate(h ^ _round(u(0), load8(data, i)), 27) * _P1 + _P4
        i += u(8)
    if i + u(4) <= end:
        h = _rotate(h ^ (load4(data, i) * _P1), 23) * _P2 + _P3
        i += u(4)
    while i < end:
        h = _rotate(h ^ (u(data[i]) * _P5), 11) * _P1
        i += u(1)
    h ^= h >> u(33)
    h *= _P2
    h ^= h >> u(29)
    h *= _P3
    h ^= h >> u(32)
    if h == u(0):
        return _ZERO_STANDS_FOR
    return h


@kernel
def hash_texts(
    offsets: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    out: UInt64,
) -> int:
    """Hash each text without its outer blanks; 0 for null or blank. Returns how many had blanks.

    ``offsets`` ``(n + 1,)``, ``valid`` ``(n,)`` or empty (all valid), ``out`` ``(n,)``.
    """
    blanks = 0
    for row in range(len(offsets) - 1):
        out[row] = np.uint64(0)
        if len(valid) > 0 and not valid[row]:
            continue
        start = offsets[row]
        end = offsets[row + 1]
        if start < end and (data[start] <= 32 or data[end - 1] <= 32):
            blanks += 1
            while start < end and data[start] <= 32:
                start += 1
            while start < end and data[end - 1] <= 32:
                end -= 1
        if start < end:
            out[row] = hash_bytes(data, np.uint64(start), np.uint64(end))
    return blanks


@leaf
def mix(h: np.uint64, value: np.uint64) -> np.uint64:
    """Fold ``value`` into the running hash ``h``; order matters (one XXH64 lane)."""
    return _rotate(h ^ (_rotate(value * _P2, 31) * _P1), 27) * _P1 + _P4


@leaf
def finish(h: np.uint64) -> np.uint64:
    """Spread the bits of a running hash (XXH64 avalanche); never 0."""
    u = np.uint64
    h ^= h >> u(33)
    h *= _P2
    h ^= h >> u(29)
    h *= _P3
    h ^= h >> u(32)
    if h == u(0):
        return _ZERO_STANDS_FOR
    return h


@kernel
def combine(first: UInt64, second: UInt64, out: UInt64) -> None:
    """Hash pairs ``(first[i], second[i])`` into ``out``; 0 where ``first[i]`` is 0. All ``(n,)``."""
    for i in range(len(first)):
        if first[i] == np.uint64(0):
            out[i] = np.uint64(0)
        else:
            out[i] = finish(mix(first[i], second[i]))


def hash64(text: str) -> int:
    """Return the hash of ``text`` as the kernels compute it: XXH64 without outer blanks, 0 if empty.

    A twin in plain Python, for look-ups of single values and for tests.
    """
    data = text.encode(errors="surrogateescape")
    while data and data[0] <= 32:
        data = data[1:]
    while data and data[-1] <= 32:
        data = data[:-1]
    return _xxh64(data) if data else 0


def bill_key(actor_id: str, bill_code: str) -> int:
    """Return ``EventBatch.bill`` of a bill: numbers of bills are unique within an enterprise."""
    h = hash64(bill_code)
    return _finish(_mix(h, hash64(actor_id))) if h else 0


def _rotl(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _MASK


def _lane(accumulator: int, lane: int) -> int:
    return _rotl((accumulator + lane * int(_P2)) & _MASK, 31) * int(_P1) & _MASK


def _mix(h: int, value: int) -> int:
    return (_rotl(h ^ _lane(0, value), 27) * int(_P1) + int(_P4)) & _MASK


def _finish(h: int) -> int:
    h = (h ^ (h >> 33)) * int(_P2) & _MASK
    h = (h ^ (h >> 29)) * int(_P3) & _MASK
    h ^= h >> 32
    return h or int(_ZERO_STANDS_FOR)


def _xxh64(data: bytes) -> int:
    p1, p2, p3, p4, p5 = int(_P1), int(_P2), int(_P3), int(_P4), int(_P5)
    length, i = len(data), 0
    if length >= 32:
        lanes = [(p1 + p2) & _MASK, p2, 0, -p1 & _MASK]
        while i + 32 <= length:
            for k in range(4):
                word = int.from_bytes(data[i + 8 * k : i + 8 * k + 8], "little")
                lanes[k] = _lane(lanes[k], word)
            i += 32
        h = sum(_rotl(v, bits) for v, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for v in lanes:
            h = ((h ^ _lane(0, v)) * p1 + p4) & _MASK
    else:
        h = p5
    h = (h + length) & _MASK
    while i + 8 <= length:
        h = _mix(h, int.from_bytes(data[i : i + 8], "little"))
        i += 8
    if i + 4 <= length:
        h ^= int.from_bytes(data[i : i + 4], "little") * p1 & _MASK
        h = (_rotl(h, 23) * p2 + p3) & _MASK
        i += 4
    for byte in data[i:]:
        h = _rotl(h ^ (byte * p5 & _MASK), 11) * p1 & _MASK
    return _finish(h)


class ContentHasher:
    """Hashes of the content of events: every column but ``event_id`` and ``record_time``.

    Interned columns count by the hash of their text, so the result depends neither on the order in
    which texts arrived nor on the engine. Keeps the hash of every text of ``vocabulary`` seen so
    far. Not shared between threads.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._texts: dict[int, UInt64] = {}

    def keys(self, batch: EventBatch, rows: npt.NDArray[np.int64] | None = None) -> UInt64:
        """Return content keys of ``rows`` (all rows if None), shape ``(m,)``; never 0.

        Two rows have equal keys just when they have equal content. ``batch.content_key`` must be as
        the encoder left it: it covers the columns that have no field of their own in a batch.
        """
        from trace_engine.events.batch import NATIONAL_LIMIT

        part = batch if rows is None else _Rows(batch, rows)
        words = self._vocabulary
        code = np.array(part.code)
        other = np.flatnonzero(code >= np.uint64(NATIONAL_LIMIT))
        if len(other):
            index = (code[other] - np.uint64(NATIONAL_LIMIT)).astype(np.int64)
            code[other] = self._hashes(words.codes)[index]
        out = np.full(len(code), _P5)
        with np.errstate(over="ignore"):
            for column in (
                part.content_key, code, part.time, part.kind, part.flags,
                self._of(words.parties, part.actor), self._of(words.parties, part.source),
                self._of(words.parties, part.target), part.source_region, part.target_region,
                self._of(words.drugs, part.drug), self._of(words.batches, part.batch_no),
                part.production, part.expiry, part.quantity, part.price, part.bill, part.order,
                part.buyer, self._of(words.platforms, part.platform),
                self._of(words.shops, part.shop), part.voids,
            ):  # fmt: skip
                if column.dtype == np.uint64:
                    mix_column(out, np.ascontiguousarray(column))
                else:
                    mix_column(out, column.astype(np.int64).view(np.uint64))
            finish_column(out)
        return out

    def _of(self, interner: Interner, ids: npt.NDArray[np.int32]) -> UInt64:
        hashes = self._hashes(interner)
        if len(hashes) == 0:
            return np.zeros(len(ids), np.uint64)
        found: Any = np.where(ids < 0, np.uint64(0), hashes[np.maximum(ids, 0)])
        return found  # type: ignore[no-any-return]

    def _hashes(self, interner: Interner) -> UInt64:
        known = self._texts.get(id(interner), np.empty(0, np.uint64))
        size = len(interner)
        if len(known) < size:
            data = [
                text.encode(errors="surrogateescape") for text in interner.values[len(known) : size]
            ]
            offsets = np.zeros(len(data) + 1, np.int64)
            np.cumsum([len(text) for text in data], out=offsets[1:])
            fresh = np.empty(len(data), np.uint64)
            joined = np.frombuffer(b"".join(data), np.uint8)
            with np.errstate(over="ignore"):
                hash_texts(offsets, joined, np.empty(0, np.bool_), fresh)
            known = np.concatenate([known, fresh])
            self._texts[id(interner)] = known
        return known


class _Rows:
    """The named rows of a batch, column by column on demand."""

    def __init__(self, batch: EventBatch, rows: npt.NDArray[np.int64]) -> None:
        self._batch = batch
        self._index = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)[self._index]


@kernel
def mix_column(h: UInt64, values: UInt64) -> None:
    """Fold ``values`` into the running hashes ``h`` in place. Both ``(n,)``."""
    for i in range(len(h)):
        h[i] = mix(h[i], values[i])


@kernel
def finish_column(h: UInt64) -> None:
    """Finish the running hashes ``h`` in place, shape ``(n,)``."""
    for i in range(len(h)):
        h[i] = finish(h[i])

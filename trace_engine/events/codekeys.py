"""Codes to 64-bit keys: national ones by arithmetic, the others through the vocabulary.

A national code is ``8`` and 19 digits, and 10**19 < 2**64: the digits are the key. Any other code
gets 10**19 + the number of its identity in ``Vocabulary.codes``, so keys of different codes differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel, leaf
from trace_engine.events.batch import MISSING, NATIONAL_LIMIT, Vocabulary
from trace_engine.events.codes import CodeSystem, lost_digits, parse_code
from trace_engine.events.hashing import load8
from trace_engine.events.texts import TextColumn

UInt64 = npt.NDArray[np.uint64]

NATIONAL = 0
OTHER = 1
ABSENT = 2
LOST = 3

_UNKNOWN = -2
_IDENTIFIERS = 1_000_000  # national identifiers are 8 and six digits


@leaf
def eight_digits(word: np.uint64) -> np.uint64:
    """Return the value of 8 ASCII digits (little-endian word), or 2**32 if one is no digit.

    Three multiplications join neighbours: pairs, then fours, then all eight.
    """
    u = np.uint64
    high = word & u(0xF0F0F0F0F0F0F0F0)
    carried = (word + u(0x0606060606060606)) & u(0xF0F0F0F0F0F0F0F0)
    if high != u(0x3030303030303030) or carried != u(0x3030303030303030):
        return u(4294967296)
    word &= u(0x0F0F0F0F0F0F0F0F)
    word = ((word * u(2561)) >> u(8)) & u(0x00FF00FF00FF00FF)
    word = ((word * u(6553601)) >> u(16)) & u(0x0000FFFF0000FFFF)
    return (word * u(42949672960001)) >> u(32)


@kernel
def national_keys(
    offsets: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    drugs: npt.NDArray[np.int32],
    key: UInt64,
    drug: npt.NDArray[np.int32],
    state: npt.NDArray[np.uint8],
) -> int:
    """Parse 20-digit codes beginning with 8; returns how many have an identifier not in ``drugs``.

    ``drugs`` ``(10**6,)``: number of the product of each identifier (its last six digits), -2
    where it has none yet. ``state``: NATIONAL, OTHER (left to the slow path) or ABSENT.
    """
    u = np.uint64
    unknown = 0
    bad = u(4294967296)
    for row in range(len(offsets) - 1):
        key[row] = u(0)
        drug[row] = -1
        if len(valid) > 0 and not valid[row]:
            state[row] = 2
            continue
        start = offsets[row]
        if offsets[row + 1] - start != 20 or data[start] != 56:
            state[row] = 1
            if offsets[row + 1] == start:
                state[row] = 2
            continue
        i = u(start)
        first = eight_digits(load8(data, i))
        second = eight_digits(load8(data, i + u(8)))
        third = eight_digits(load8(data, i + u(12)))
        if first == bad or second == bad or third == bad:
            state[row] = 1
            continue
        state[row] = 0
        key[row] = (
            (first - u(80_000_000)) * u(1_000_000_000_000) + second * u(10_000) + third % u(10_000)
        )
        found = drugs[(first - u(80_000_000)) // u(10)]
        drug[row] = found
        if found == -2:
            unknown += 1
    return unknown


@dataclass(slots=True)
class CodeColumns:
    """What the codes of a batch say, each of shape ``(n,)``; ``absent`` rows name no code."""

    key: UInt64
    problem: npt.NDArray[np.uint8]
    drug: npt.NDArray[np.int32]  # Vocabulary.drugs of the identifier in the code; -1
    absent: npt.NDArray[np.bool_]
    lost: npt.NDArray[np.bool_]  # a spreadsheet has rounded it


class CodeKeys:
    """Keys of codes of one vocabulary. Not shared between threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._drugs = np.full(_IDENTIFIERS, _UNKNOWN, np.int32)

    def read(
        self,
        column: TextColumn,
        key: UInt64 | None = None,
        problem: npt.NDArray[np.uint8] | None = None,
        drug: npt.NDArray[np.int32] | None = None,
    ) -> CodeColumns:
        """Return keys, problems and identifiers of a column of codes.

        They are written to the arrays given (``(n,)``), but for a dictionary column.
        """
        count = column.values
        if key is None or problem is None or drug is None or column.indices is not None:
            key = np.empty(count, np.uint64)
            problem = np.empty(count, np.uint8)
            drug = np.empty(count, np.int32)
        state = np.empty(count, np.uint8)
        with np.errstate(over="ignore"):
            unknown = national_keys(
                column.offsets, column.data, column.valid, self._drugs, key, drug, state
            )
        if unknown:
            rows = np.flatnonzero(drug == _UNKNOWN)
            drug[rows] = self._new_identifiers(key[rows])
        problem[:] = 0
        others = np.flatnonzero(state == OTHER)
        if len(others):
            self._read_others(column, others, key, problem, drug, state)
        if column.indices is not None:
            at = column.indices
            key = np.append(key, np.uint64(0))[at]
            problem = np.append(problem, np.uint8(0))[at]
            drug = np.append(drug, np.int32(MISSING))[at]
            state = np.append(state, np.uint8(ABSENT))[at]
        return CodeColumns(key, problem, drug, state == ABSENT, state == LOST)

    def absent_key(self) -> int:
        """Return the key that stands for "no code", of bills that count quantities only."""
        return NATIONAL_LIMIT + self._vocabulary.codes.id("")

    def _new_identifiers(self, keys: UInt64) -> npt.NDArray[np.int32]:
        numbers = (keys // np.uint64(10**13)).astype(np.int64)
        for number in np.unique(numbers).tolist():
            self._drugs[number] = self._vocabulary.drugs.id(f"8{number:06d}")
        return self._drugs[numbers]

    def _read_others(
        self,
        column: TextColumn,
        rows: npt.NDArray[np.int64],
        key: UInt64,
        problem: npt.NDArray[np.uint8],
        drug: npt.NDArray[np.int32],
        state: npt.NDArray[np.uint8],
    ) -> None:
        """Read codes of other forms, each distinct text once."""
        words = self._vocabulary
        known: dict[str, tuple[int, int, int, int]] = {}
        for row in rows.tolist():
            text = column.text(row)
            found = known.get(text)
            if found is None:
                found = known[text] = self._read_other(text, words)
            key[row], problem[row], drug[row], state[row] = found

    @staticmethod
    def _read_other(text: str, words: Vocabulary) -> tuple[int, int, int, int]:
        if lost_digits(text):
            return 0, 0, MISSING, LOST
        parsed = parse_code(text)
        if not parsed.identity:
            return 0, 0, MISSING, ABSENT
        drug = words.drugs.id(parsed.identifier) if parsed.identifier else MISSING
        if parsed.system == CodeSystem.NATIONAL and parsed.identity[0] == "8":
            return int(parsed.identity[1:]), parsed.problem, drug, NATIONAL
        number = words.codes.id(parsed.identity)
        return NATIONAL_LIMIT + number, parsed.problem, drug, OTHER

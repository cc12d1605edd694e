"""What an encoder remembers between batches, and what it notes of the rows of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trace_engine.events.batch import Interner, Vocabulary
from trace_engine.events.codekeys import CodeKeys
from trace_engine.events.hashing import ContentHasher
from trace_engine.events.kinds import parse_kind
from trace_engine.events.privacy import Pseudonyms, is_identity_card, looks_personal
from trace_engine.events.texts import TextTable
from trace_engine.events.values import ValueReader

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


class Problems:
    """The first thing wrong with each row of a batch: 0, or an index of ``kinds``."""

    def __init__(self, count: int) -> None:
        self.of_row = np.zeros(count, np.uint8)
        self.kinds: list[tuple[str, str, str]] = [("", "", "")]  # column, reason, expected

    def mark(self, wrong: Bool, column: str, reason: str, expected: str) -> None:
        """Note a problem of the rows where ``wrong`` is set and nothing was wrong so far."""
        if not wrong.any():
            return
        self.kinds.append((column, reason, expected))
        np.copyto(self.of_row, np.uint8(len(self.kinds) - 1), where=wrong & (self.of_row == 0))


class Tables:
    """What an encoder remembers of texts, for one thread."""

    def __init__(
        self, vocabulary: Vocabulary, region_index: Callable[[str], int], pseudonyms: Pseudonyms
    ) -> None:
        def interned(interner: Interner) -> TextTable:
            return TextTable(lambda texts: interner.ids(texts).astype(np.int64))

        def parties(texts: Sequence[str]) -> Int64:
            # A person's number where an enterprise is expected must not be stored either.
            names = [pseudonyms.of(t) if is_identity_card(t) else t for t in texts]
            return vocabulary.parties.ids(names).astype(np.int64)

        def persons(interner: Interner) -> TextTable:
            def numbers(texts: Sequence[str]) -> Int64:
                names = [pseudonyms.of(t) if looks_personal(t) else t for t in texts]
                return interner.ids(names).astype(np.int64)

            return TextTable(numbers)

        def regions(texts: Sequence[str]) -> Int64:
            return np.fromiter(map(region_index, texts), np.int64, len(texts))

        def kinds(texts: Sequence[str]) -> Int64:
            return np.fromiter(map(_kind, texts), np.int64, len(texts))

        self.values = ValueReader()
        self.codes = CodeKeys(vocabulary)
        self.content = ContentHasher(vocabulary)
        self.parties = TextTable(parties)
        self.drugs = interned(vocabulary.drugs)
        self.batches = interned(vocabulary.batches)
        self.platforms = interned(vocabulary.platforms)
        self.shops = interned(vocabulary.shops)
        self.devices = interned(vocabulary.devices)
        self.operators = persons(vocabulary.operators)
        self.pharmacists = persons(vocabulary.pharmacists)
        self.doctors = persons(vocabulary.doctors)
        self.regions = TextTable(regions)
        self.kinds = TextTable(kinds)


def _kind(text: str) -> int:
    # A spreadsheet that saw an empty cell writes bill number 201 as 201.0.
    return int(parse_kind(text.removesuffix(".0")))

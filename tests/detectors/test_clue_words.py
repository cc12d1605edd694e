"""The number of clues expected, as the sentence of ``clue_concentration`` says it."""

from __future__ import annotations

import pytest

from trace_engine.detectors.clue_concentration import _in_words


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (123.4, "123"),
        (12.0, "12"),
        (9.87, "9.9"),
        (0.5, "0.5"),
        (0.034, "0.034"),
        (0.0012, "0.0012"),
        (0.0004, "<0.001"),
        (0.0, "0"),
    ],
)
def test_a_small_number_is_never_rounded_to_nothing(expected: float, words: str) -> None:
    assert _in_words(expected) == words

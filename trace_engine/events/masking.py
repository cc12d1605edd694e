"""Columns as they may be written to disk: numbers of persons replaced by pseudonyms.

The encoder does the same on its way to numbers; this is for what keeps the rows themselves, as the
journal does. Encoding masked columns gives what encoding the masked values one by one would give,
and masking twice changes nothing.

Columns about persons (``raw.PERSONAL_COLUMNS``) lose every value that looks like a number of a
person. All other texts hold long numbers of their own (codes, bills, orders), so in them only
identity cards with a right check character are replaced, as in rejects and findings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.core.kernel import kernel
from trace_engine.events.privacy import Pseudonyms, looks_personal, maybe_personal
from trace_engine.events.raw import PERSONAL_COLUMNS
from trace_engine.events.schema import BY_NAME, LABEL, TEXT
from trace_engine.events.texts import TextColumn, is_text, text_column
from trace_engine.events.values import as_text, wrong_type

# Columns that mean text whatever type they come in. A date of expiry may also be a date.
TEXT_COLUMNS = frozenset(
    name for name, column in BY_NAME.items() if column.type in (TEXT, LABEL)
) - {"expiry_date"}

_MOST_SCALE = 20  # digits behind the point of a decimal; amounts have two


@kernel
def maybe_identity(
    offsets: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    out: npt.NDArray[np.bool_],
) -> int:
    """Mark texts that may hold an identity number; returns how many.

    That is 17 digits and a digit or X, with neither digit nor letter beside them, or any full-width
    digit. ``offsets`` ``(n + 1,)``, ``valid`` ``(n,)`` or empty, ``out`` ``(n,)``.
    """
    count = 0
    for row in range(len(offsets) - 1):
        out[row] = False
        if len(valid) > 0 and not valid[row]:
            continue
        start = offsets[row]
        end = offsets[row + 1]
        if end - start < 18:
            continue
        run = 0  # digits that stand together, -1: a letter stands before them
        i = start
        while i <= end:
            byte = data[i] if i < end else np.uint8(0)
            if 48 <= byte <= 57:
                if run >= 0:
                    run += 1
            else:
                upper = byte & 0xDF
                letter = 65 <= upper <= 90
                if run == 18 and not letter:
                    out[row] = True
                elif run == 17 and upper == 88:
                    follower = data[i + 1] if i + 1 < end else np.uint8(0)
                    upper = follower & 0xDF
                    if not (48 <= follower <= 57) and not (65 <= upper <= 90):
                        out[row] = True
                elif byte == 0xEF and i + 2 < end and data[i + 1] == 0xBC:
                    out[row] = 0x90 <= data[i + 2] <= 0x99
                if out[row]:
                    count += 1
                    break
                run = -1 if letter else 0
            i += 1
    return count


def masked(
    batch: pa.RecordBatch, pseudonyms: Pseudonyms, texts: dict[str, TextColumn] | None = None
) -> pa.RecordBatch:
    """Return ``batch`` (canonical names, any types) without numbers of persons.

    Texts come out as plain strings, large strings or dictionaries of these, and no byte that no
    row shows is left behind them; ``texts`` takes those columns as kernels read them, by name.
    Raises ``InputError`` for a column of a type that cannot be right.
    """
    texts = {} if texts is None else texts
    arrays = [
        _masked_column(name, array, pseudonyms, texts)
        for name, array in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def _masked_column(
    name: str, array: pa.Array, pseudonyms: Pseudonyms, texts: dict[str, TextColumn]
) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind) and not is_text(kind):
        array = array.dictionary_decode()
        kind = array.type
    if name in TEXT_COLUMNS:
        array = as_text(array, name)
    elif not is_text(kind):
        if pa.types.is_decimal(kind) and not 0 <= kind.scale <= _MOST_SCALE:
            raise wrong_type(name, kind, "a decimal with two digits behind the point")
        return array
    if pa.types.is_null(array.type):
        return array
    array, column = _plain_text(array, name)
    without = _masked_text(array, column, name, pseudonyms)
    texts[name] = column if without is array else text_column(without)
    return without


def _plain_text(array: pa.Array, name: str) -> tuple[pa.Array, TextColumn]:
    """Return a text column without views, nested dictionaries and bytes that no row shows."""
    if pa.types.is_dictionary(array.type):
        if pa.types.is_dictionary(array.type.value_type):
            raise wrong_type(name, array.type, "text")
        values, _ = _plain_text(array.dictionary, name)
        if len(values) > len(array):  # a dictionary meant for other rows
            array = pa.DictionaryArray.from_arrays(array.indices, values).cast(values.type)
        elif values is not array.dictionary:
            array = pa.DictionaryArray.from_arrays(array.indices, values)
        return array, text_column(array)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    column = text_column(array)
    if not _is_tight(column):
        array = array.take(pa.array(np.arange(len(array))))
        column = text_column(array)
    return array, column


def _is_tight(column: TextColumn) -> bool:
    """Return whether the bytes behind texts are those of the rows that are not null."""
    offsets, size = column.offsets, len(column.data)
    if size == 0 or int(offsets[-1]) - int(offsets[0]) != size:
        return size == 0
    if not len(column.valid):
        return True
    return int(np.diff(offsets)[column.valid].sum()) == size


def _masked_text(
    array: pa.Array, column: TextColumn, name: str, pseudonyms: Pseudonyms
) -> pa.Array:
    """Return ``array`` (``column`` to kernels) without numbers of persons; itself if it has none."""
    marked = np.empty(column.values, np.bool_)
    if name in PERSONAL_COLUMNS:
        found = maybe_personal(column.offsets, column.data, column.valid, marked)
        replace: Callable[[str], str] = pseudonyms.of
    else:
        found = maybe_identity(column.offsets, column.data, column.valid, marked)
        replace = pseudonyms.mask_identity_cards
    if not found:
        return array
    rows, texts = _replaced(column, marked, name in PERSONAL_COLUMNS, replace)
    if not rows:
        return array
    where = np.zeros(column.values, np.bool_)
    where[rows] = True
    if not pa.types.is_dictionary(array.type):
        return pc.replace_with_mask(array, pa.array(where), pa.array(texts, array.type))
    values = array.dictionary
    values = pc.replace_with_mask(values, pa.array(where), pa.array(texts, values.type))
    return pa.DictionaryArray.from_arrays(array.indices, values)


def _replaced(
    column: TextColumn, marked: npt.NDArray[np.bool_], personal: bool, replace: Callable[[str], str]
) -> tuple[list[int], list[str]]:
    """Return which of the marked texts change, and what they become; each text is looked at once."""
    known: dict[str, str] = {}
    rows: list[int] = []
    texts: list[str] = []
    for row in np.flatnonzero(marked).tolist():
        text = column.text(row)
        masked_text = known.get(text)
        if masked_text is None:
            if personal:
                masked_text = replace(text) if looks_personal(text) else text
            else:
                masked_text = _without_cards(text, replace)
            known[text] = masked_text
        if masked_text != text:
            rows.append(row)
            texts.append(masked_text)
    return rows, texts


def _without_cards(text: str, replace: Callable[[str], str]) -> str:
    """Mask identity cards in ``text``, in full-width digits too; all else stays as it was."""
    changed = replace(text)
    if changed == text and not text.isascii():
        plain = unicodedata.normalize("NFKC", text)
        changed = replace(plain)
        return text if changed == plain else changed
    return changed

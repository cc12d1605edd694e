"""Arrow arrays of texts in every physical shape a reader may hand over."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import strategies as st

SHAPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint16(), pa.large_string()),
    pa.dictionary(pa.int64(), pa.string()),
)


def shaped(values: list[str | None], shape: pa.DataType, before: int, behind: int) -> pa.Array:
    """Return ``values`` as a slice of a longer array of type ``shape``."""
    padding = ["padding, not part of the slice"]
    whole = pa.array(padding * before + values + padding * behind, pa.string())
    if pa.types.is_dictionary(shape):
        # Arrow makes int32 indices only; each batch here has few distinct values.
        encoded = whole.dictionary_encode()
        array = pa.DictionaryArray.from_arrays(
            encoded.indices.cast(shape.index_type), encoded.dictionary.cast(shape.value_type)
        )
    else:
        array = whole.cast(shape)
    return array.slice(before, len(values))


texts = st.lists(st.one_of(st.none(), st.text(max_size=50)), max_size=30)
shapes = st.sampled_from(SHAPES)
margins = st.integers(0, 11)

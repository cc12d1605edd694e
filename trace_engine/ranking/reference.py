"""Look-ups of reference data by id, and the parameters of a policy section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.policy.errors import PolicyError
from trace_engine.registry.types import ENTERPRISE_TYPE_NAMES

S = TypeVar("S", bound=msgspec.Struct)


class TableSource(Protocol):
    """What ranking and sampling ask of a registry."""

    def table(self, name: str) -> pa.Table | None:
        """Return the named table of the registry folder, or None where there is none."""


def table_of(registry: TableSource | None, name: str, columns: Sequence[str]) -> pa.Table | None:
    """Return ``columns`` of a registry table; columns it lacks come as null strings."""
    table = None if registry is None else registry.table(name)
    if table is None:
        return None
    arrays = [
        table.column(column).combine_chunks()
        if column in table.column_names
        else pa.nulls(table.num_rows, pa.string())
        for column in columns
    ]
    return pa.table(dict(zip(columns, arrays, strict=True)))


def look_up(
    ids: pa.Array, table: pa.Table | None, key: str, columns: Sequence[str]
) -> dict[str, pa.Array]:
    """Return ``columns`` of the first row of ``table`` with each id; null where there is none.

    Arrays have the length of ``ids``. A null id finds nothing.
    """
    if table is None or not table.num_rows:
        return {column: pa.nulls(len(ids), pa.string()) for column in columns}
    keys = table.column(key).combine_chunks()
    index = pc.index_in(ids, value_set=keys, skip_nulls=True)
    return {column: table.column(column).combine_chunks().take(index) for column in columns}


def enterprise_types(values: pa.Array) -> pa.Array:
    """Return contract names (``chain_hq``) for accepted spellings; others stay as they are."""
    encoded = pc.dictionary_encode(values)
    names = [
        ENTERPRISE_TYPE_NAMES[text.strip().lower()].contract_name
        if text.strip().lower() in ENTERPRISE_TYPE_NAMES
        else text
        for text in encoded.dictionary.to_pylist()
    ]
    return pa.array(names, pa.string()).take(encoded.indices)


def section(policy: Any, name: str, kind: type[S]) -> S:
    """Return the parameters ``kind`` of a policy's section ``name``.

    ``policy`` may be None (defaults), an instance of ``kind`` itself, or a policy. Values that
    contradict each other raise :class:`PolicyError`, as single bad values do.
    """
    if policy is None:
        return kind()
    if isinstance(policy, kind):
        return policy
    try:
        found: S = policy.section(name, kind)
    except PolicyError:
        raise
    except ValueError as error:
        raise PolicyError(f"[{name}]: {error}") from error
    return found

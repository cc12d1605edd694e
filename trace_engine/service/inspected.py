"""The registry as ranking and sampling see it: with the inspections reported to the service."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from trace_engine.registry import Registry

COLUMNS = (
    "enterprise_id", "date", "kind", "outcome", "drug_id", "inclusion_probability"
)  # fmt: skip
TABLE = "inspections"


class InspectedRegistry:
    """A registry whose table of inspections also has ``outcomes`` (mappings of ``COLUMNS``).

    An inspection that both know (same enterprise, day, kind and drug) counts once, as reported.
    """

    def __init__(self, registry: Registry, outcomes: Sequence[dict[str, Any]]) -> None:
        self._registry = registry
        self._outcomes = outcomes

    def table(self, name: str) -> pa.Table | None:
        """Return the named table (see ``ranking.reference.TableSource``)."""
        table = self._registry.table(name)
        if name != TABLE or not self._outcomes:
            return table
        rows = [{column: outcome.get(column) for column in COLUMNS} for outcome in self._outcomes]
        for row in rows:
            if isinstance(row["date"], str):
                row["date"] = dt.date.fromisoformat(row["date"][:10])
        known = {_identity(row) for row in rows}
        if table is not None:
            rows += [
                {column: row.get(column) for column in COLUMNS}
                for row in table.to_pylist()
                if _identity(row) not in known
            ]
        types = [pa.string(), pa.date32(), pa.string(), pa.string(), pa.string(), pa.float64()]
        return pa.Table.from_pylist(rows, schema=pa.schema(list(zip(COLUMNS, types, strict=True))))


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["enterprise_id"], str(row["date"])[:10], row.get("kind"), row.get("drug_id"))

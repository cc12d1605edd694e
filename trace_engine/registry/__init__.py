"""Reference data: enterprises, drugs, recalls, regions, licences."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from trace_engine.registry.checks import check_tables
from trace_engine.registry.tables import SCHEMAS, conform, find_file, read_table
from trace_engine.registry.types import (
    CLASS_BITS,
    EnterpriseType,
    Problem,
    RegistryError,
)
from trace_engine.registry.view import Recalls, RegistryView

if TYPE_CHECKING:
    from trace_engine.events.batch import Vocabulary

__all__ = [
    "CLASS_BITS",
    "EnterpriseType",
    "Problem",
    "Recalls",
    "Registry",
    "RegistryError",
    "RegistryView",
]


class Registry:
    """The tables of a registry folder, checked.

    ``problems`` lists the rows that are wrong without being unusable; a run goes on with them.
    ``content_hash`` names the contents of the tables (16 hexadecimal digits, ``none`` if empty).
    """

    def __init__(self, tables: Mapping[str, pa.Table] | None = None) -> None:
        unknown = set(tables or ()) - set(SCHEMAS)
        if unknown:
            raise RegistryError(
                f"found tables {', '.join(sorted(unknown))}, expected {', '.join(SCHEMAS)}",
                f"没有名为{'、'.join(sorted(unknown))}的主数据表，应为{'、'.join(SCHEMAS)}",
            )
        self._tables = {
            name: conform(table, name, name) for name, table in sorted((tables or {}).items())
        }
        self._finish({name: name for name in self._tables})

    @classmethod
    def load(cls, folder: str | Path | None) -> Registry:
        """Read a folder (``None`` gives an empty registry).

        A folder that does not exist, a file that cannot be read, a missing column or a value of
        the wrong type raises :class:`RegistryError` with one line.
        """
        registry = cls()
        if folder is None:
            return registry
        folder = Path(folder)
        if not folder.is_dir():
            raise RegistryError(
                f"{folder}: found no such folder, expected a registry folder",
                f"{folder}：没有这个主数据文件夹",
            )
        labels: dict[str, str] = {}
        for name in sorted(SCHEMAS):
            path = find_file(folder, name)
            if path is not None:
                registry._tables[name] = read_table(path, name)
                labels[name] = path.name
        if not labels:
            names = ", ".join(f"{name}.csv" for name in SCHEMAS)
            raise RegistryError(
                f"{folder}: found no registry file, expected any of {names}",
                f"{folder}：没有主数据文件，至少应有其中之一：{names}",
            )
        registry._finish(labels)
        return registry

    def _finish(self, labels: Mapping[str, str]) -> None:
        self.problems: list[Problem] = check_tables(self._tables, labels)
        self.content_hash = _content_hash(self._tables)

    def has(self, name: str) -> bool:
        """Return whether the table ``name`` was given and has rows."""
        table = self._tables.get(name)
        return table is not None and table.num_rows > 0

    def table(self, name: str) -> pa.Table | None:
        """Return a table by its contract name, or None."""
        return self._tables.get(name)

    def view(self, vocabulary: Vocabulary) -> RegistryView:
        """Return the registry as arrays addressed by the ids of ``vocabulary``."""
        return RegistryView(self, vocabulary)


def _content_hash(tables: Mapping[str, pa.Table]) -> str:
    """Return a hash of names, columns and values; CSV and Parquet of one content agree."""
    if not tables:
        return "none"
    digest = hashlib.sha256()
    for name in sorted(tables):
        table = tables[name].select(sorted(tables[name].column_names)).combine_chunks()
        digest.update(name.encode())
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
            writer.write_table(table.replace_schema_metadata(None))
        digest.update(sink.getvalue())
    return digest.hexdigest()[:16]

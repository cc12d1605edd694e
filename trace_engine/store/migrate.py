"""Numbered migrations: what brings an empty or older database to the tables this code expects.

``migrations/NNNN_name.sql`` is SQL that both databases understand, statements separated by lines
ending with ``;``. A line that ends with ``-- sqlite`` or ``-- postgresql`` is for that one alone.
Each file is applied once, in one transaction, with its checksum recorded; a file that was applied
never changes again.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources

from sqlalchemy import Connection, inspect, select, text

from trace_engine import __version__
from trace_engine.store.tables import MIGRATION

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_ONLY = re.compile(r"--\s*(sqlite|postgresql)\s*$")
# Any constant will do, as long as nothing else in the same PostgreSQL database locks it.
_ADVISORY_LOCK = 0x54454D31

_MIGRATION_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    code_version TEXT NOT NULL,
    applied_at BIGINT NOT NULL
)
"""


class StoreError(Exception):
    """The database cannot be used: one line that says why."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name, its text."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, dialect: str) -> list[str]:
        """Return what to run on ``dialect`` (``sqlite`` or ``postgresql``)."""
        lines = []
        for line in self.text.splitlines():
            only = _ONLY.search(line)
            if only is not None and only[1] != dialect:
                continue
            lines.append(line.partition("--")[0].rstrip())
        parts = re.split(r";$", "\n".join(lines), flags=re.MULTILINE)
        return [part.strip() for part in parts if part.strip()]


def known_migrations() -> list[Migration]:
    """Return the migrations of this code, in order. Their numbers begin with 1 without holes."""
    found = []
    for file in resources.files("trace_engine.store").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise StoreError("the migrations of this installation are not numbered without holes")
    return found


def migrate(
    write: Callable[[], AbstractContextManager[Connection]],
    migrations: list[Migration],
    where: str,
) -> list[int]:
    """Apply what is missing and return the numbers applied.

    Safe when several processes start at once: each takes a lock and looks again. Raises
    :class:`StoreError` if the database was made by newer code, or by other migrations.
    """
    applied: list[int] = []
    while True:
        with write() as connection:
            missing = _missing(connection, migrations, where)
            if not missing:
                return applied
            _apply(connection, missing[0])
        applied.append(missing[0].version)


def _missing(connection: Connection, migrations: list[Migration], where: str) -> list[Migration]:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
    if not inspect(connection).has_table(MIGRATION.name):
        if inspect(connection).has_table("finding"):
            raise StoreError(f"{where}: holds tables of something else")
        connection.execute(text(_MIGRATION_TABLE))
        return migrations
    done = {row.version: row for row in connection.execute(select(MIGRATION))}
    newest = len(migrations)
    if done and max(done) > newest:
        made_by = done[max(done)].code_version
        raise StoreError(
            f"{where}: is of version {max(done)}, made by trace-engine {made_by}; this one "
            f"({__version__}) knows versions up to {newest}: install that one or a later one"
        )
    for migration in migrations:
        row = done.get(migration.version)
        if row is not None and row.checksum != migration.checksum:
            raise StoreError(
                f"{where}: migration {migration.version} ({row.name}) is not the one that was "
                "applied"
            )
    return [migration for migration in migrations if migration.version not in done]


def _apply(connection: Connection, migration: Migration) -> None:
    for statement in migration.statements(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(
        MIGRATION.insert(),
        {
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.checksum,
            "code_version": __version__,
            "applied_at": time.time_ns() // 1000,
        },
    )

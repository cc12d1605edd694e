"""The database of findings, outcomes, keys and the rest: SQLite by default, PostgreSQL by URL.

SQLAlchemy Core without its object mapper. Writers are serialised: on SQLite a transaction that
writes takes the one write lock when it begins; on PostgreSQL whoever draws numbers holds the row of
the counter until it commits. So numbers rise in the order of commits, and a reader that has seen
number n never finds a smaller one later.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from trace_engine.store.migrate import Migration, StoreError, known_migrations, migrate
from trace_engine.store.tables import COUNTER, SETTING

__all__ = ["Database", "StoreError"]

BUSY_SECONDS = 30
POOL_SIZE = 10
_WRITES = "trace_engine_writes"


class Database:
    """An open database, brought up to date. All methods may be called from any thread."""

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self.now = clock  # µs UTC
        self.url = engine.url.render_as_string(hide_password=True)  # fit to be shown

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        *,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        migrations: list[Migration] | None = None,
    ) -> Database:
        """Open ``url`` and apply the migrations it lacks.

        ``url`` is ``sqlite:///file``, the path of a file, or ``postgresql://…``. A new SQLite file
        is readable by its owner alone; it must lie on a local disk. Raises :class:`StoreError` if
        the database cannot be reached or used, or was made by newer code.
        """
        parsed = parse_url(url)
        try:
            engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)
        except ImportError as error:
            raise StoreError(
                f"PostgreSQL needs a driver that is not installed ({error.name}): "
                "pip install 'trace-engine[postgres]'"
            ) from error
        database = cls(engine, clock)
        try:
            database._check()
            migrate(database.write, migrations or known_migrations(), database.url)
        except (SQLAlchemyError, sqlite3.Error) as error:
            engine.dispose()
            raise StoreError(f"{database.url}: {_first_line(error)}") from error
        except BaseException:
            engine.dispose()
            raise
        return database

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database, None for PostgreSQL."""
        return Path(str(self._engine.url.database)) if self.dialect == "sqlite" else None

    def _check(self) -> None:
        if self.dialect == "postgresql":
            with self.read() as connection:
                encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            if encoding != "UTF8":
                raise StoreError(f"{self.url}: is encoded in {encoding}, expected UTF8")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection in a transaction that only reads."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that is committed at the end, or rolled back."""
        with self._engine.connect() as connection:
            writing = connection.execution_options(**{_WRITES: True})
            with writing.begin():
                yield writing

    def ping(self) -> None:
        """Raise unless the database answers."""
        with self.read() as connection:
            connection.execute(select(COUNTER.c.value).limit(1)).first()

    def setting(self, name: str) -> str | None:
        """Return a value that was kept under ``name``."""
        with self.read() as connection:
            return connection.execute(
                select(SETTING.c.value).where(SETTING.c.name == name)
            ).scalar_one_or_none()

    def bind(self, name: str, value: str) -> None:
        """Keep ``value`` under ``name`` for good; raise :class:`StoreError` if another is there.

        Ties this database to what belongs to it, as the journal whose offsets stand in its rows.
        """
        with self.write() as connection:
            if self.dialect == "postgresql":
                connection.execute(select(COUNTER.c.name).with_for_update()).all()
            known = connection.execute(
                select(SETTING.c.value).where(SETTING.c.name == name)
            ).scalar_one_or_none()
            if known is None:
                connection.execute(insert(SETTING), {"name": name, "value": value})
            elif known != value:
                raise StoreError(f"{self.url}: belongs to another {name}")

    def keep(self, name: str, value: str) -> None:
        """Keep ``value`` under ``name``, in place of what was there."""
        with self.write() as connection:
            changed = connection.execute(
                update(SETTING).where(SETTING.c.name == name).values(value=value)
            )
            if changed.rowcount == 0:
                connection.execute(insert(SETTING), {"name": name, "value": value})

    def apply_retention(self, years: int, now: datetime) -> dict[str, int]:
        """Delete what is older than ``years`` and return how many rows of which table.

        See :func:`trace_engine.store.retention.apply_retention`.
        """
        from trace_engine.store.retention import apply_retention

        return apply_retention(self, years, now)

    def close(self) -> None:
        """Close all connections."""
        if self.dialect == "sqlite":
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA optimize")
        self._engine.dispose()


def lock_counter(connection: Connection, name: str) -> int:
    """Return the last number drawn from a counter; others cannot draw before this commits."""
    query = select(COUNTER.c.value).where(COUNTER.c.name == name).with_for_update()
    return int(connection.execute(query).scalar_one())


def draw_numbers(connection: Connection, name: str, count: int) -> range:
    """Draw ``count`` numbers from a counter, in a transaction that writes."""
    last = lock_counter(connection, name)
    connection.execute(update(COUNTER).where(COUNTER.c.name == name), {"value": last + count})
    return range(last + 1, last + count + 1)


def last_number(connection: Connection, name: str) -> int:
    """Return the last number drawn from a counter by a transaction that was committed."""
    query = select(COUNTER.c.value).where(COUNTER.c.name == name)
    return int(connection.execute(query).scalar_one())


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows that give all columns of ``table`` in its order, the fast way of each driver."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(str(insert(table).compile(dialect=connection.dialect)), rows)
        return
    from psycopg import sql

    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
    )
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def parse_url(url: str | os.PathLike[str]) -> URL:
    """Return ``url`` taken apart; a path is one of SQLite. Raises :class:`StoreError`."""
    text = os.fspath(url)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        parsed = make_url(text)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise StoreError("the URL of the database cannot be read") from error
    if backend == "postgres":  # an old name that many tools still write
        parsed = parsed.set(drivername="postgresql")
    elif backend not in ("sqlite", "postgresql"):
        raise StoreError(f"{backend} is no database for this: expected sqlite or postgresql")
    return parsed


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise StoreError("the database must be a file: what is in memory is lost at a restart")
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite", database=str(path.resolve())),
        pool_size=POOL_SIZE,
        max_overflow=-1,
        hide_parameters=True,  # they would stand in logs: findings, secrets of webhooks
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not by guessing
        connection.execute("PRAGMA journal_mode = WAL")
        # The journal forgets what a checkpoint covers, so a commit here must survive a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -32768")  # KiB
        connection.execute("PRAGMA journal_size_limit = 268435456")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        return create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"application_name": "trace-engine", "connect_timeout": 10},
        )
    except NoSuchModuleError as error:
        raise StoreError(f"no such driver of PostgreSQL: {url.drivername}") from error


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__

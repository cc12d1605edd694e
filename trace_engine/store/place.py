"""Which database a data folder belongs to: a note in the folder, without user or password.

Commands beside the service get the database's address from their own settings. Where these lack
what the service's environment says, they would use, and make, another database without a word: the
note is what they are held to.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from trace_engine.store.database import parse_url
from trace_engine.store.migrate import StoreError
from trace_engine.store.syncing import fsync_path

NOTE = "database.json"
_PORT = 5432


class OtherDatabaseError(StoreError):
    """A database that is not the one of the data folder; one line, ``zh`` says it in Chinese."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.zh = zh


@dataclass(frozen=True, slots=True)
class DatabasePlace:
    """Where a database is. ``where``: a file (relative: in the data folder), or host:port/name."""

    kind: str  # sqlite, postgresql
    where: str

    def __str__(self) -> str:
        return f"{self.kind} {self.where}"

    def file(self, data: Path) -> Path | None:
        """Return the file in the folder ``data``, None where the database lies elsewhere."""
        inside = self.kind == "sqlite" and not Path(self.where).is_absolute()
        return data / self.where if inside else None


def place_of(url: str | os.PathLike[str], data: Path) -> DatabasePlace:
    """Return the place of the database ``url``. Raises :class:`StoreError` if it is none."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return DatabasePlace("postgresql", _server(parsed))
    file, folder = Path(parsed.database or "").resolve(), data.resolve()
    return DatabasePlace(
        "sqlite", str(file.relative_to(folder) if file.is_relative_to(folder) else file)
    )


def _server(url: URL) -> str:
    """Return host:port/name as libpq understands the URL, whose parameters may say it too."""

    def said(name: str) -> str:
        value = url.query.get(name, "")
        return value if isinstance(value, str) else ",".join(value)

    host = (url.host or said("host") or said("hostaddr") or "localhost").lower()
    port = url.port or said("port") or _PORT
    return f"{host}:{port}/{url.database or said('dbname') or url.username or ''}"


def noted_place(data: Path) -> DatabasePlace | None:
    """Return the place that the service noted in its data folder; None before its first start."""
    path = data / NOTE
    try:
        said = json.loads(path.read_text("utf-8"))
        return DatabasePlace(str(said["kind"]), str(said["where"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged; a start of the service makes it anew") from error


def note_place(data: Path, place: DatabasePlace) -> None:
    """Note in the data folder that ``place`` is its database. Raises :class:`StoreError`."""
    path = data / NOTE
    partial = path.with_name(f".{NOTE}.partial")
    try:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            json.dump(asdict(place), out, ensure_ascii=False)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(path)
        fsync_path(data)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def check_place(data: Path, place: DatabasePlace) -> None:
    """Raise :class:`OtherDatabaseError` if the service noted another database than ``place``."""
    noted = noted_place(data)
    if noted is not None and noted != place:
        raise OtherDatabaseError(
            f"the service of {data} uses the database {noted}, the settings here say {place}: give "
            "it with --database or TRACE_ENGINE_DATABASE, as the service's environment does",
            f"{data} 的服务使用数据库 {noted}，而此处配置为 {place}：请用 --database 或 "
            "TRACE_ENGINE_DATABASE 给出与服务环境相同的数据库",
        )

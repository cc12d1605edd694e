"""API keys as stored: never the key itself, only a keyed digest of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from trace_engine.store.database import Database
from trace_engine.store.moments import from_micros, to_micros
from trace_engine.store.tables import API_KEY


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as stored. Times are aware and UTC; ``digest`` is that of its secret under ``salt``."""

    key_id: str
    name: str
    roles: tuple[str, ...]
    salt: bytes
    digest: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class KeyStore:
    """The keys of a database. Rows are never deleted: the audit log names them. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: KeyRecord) -> None:
        """Store a new key. Raises ``sqlalchemy.exc.IntegrityError`` if its id is taken."""
        row = {
            "key_id": record.key_id,
            "name": record.name,
            "roles": msgspec.json.encode(record.roles).decode(),
            "salt": record.salt.hex(),
            "digest": record.digest.hex(),
            "created_at": to_micros(record.created_at),
            "expires_at": to_micros(record.expires_at),
            "revoked_at": to_micros(record.revoked_at),
            "last_used_at": to_micros(record.last_used_at),
        }
        with self._database.write() as connection:
            connection.execute(insert(API_KEY), row)

    def get(self, key_id: str) -> KeyRecord | None:
        """Return one key, valid or not; None if there is none of this id."""
        with self._database.read() as connection:
            row = connection.execute(select(API_KEY).where(API_KEY.c.key_id == key_id)).first()
        return None if row is None else _record(row)

    def all(self) -> list[KeyRecord]:
        """Return all keys, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(API_KEY).order_by(API_KEY.c.created_at, API_KEY.c.key_id)
            ).all()
        return [_record(row) for row in rows]

    def any(self) -> bool:
        """Return whether there ever was a key; revoked and expired ones count."""
        with self._database.read() as connection:
            return connection.execute(select(API_KEY.c.key_id).limit(1)).first() is not None

    def revoke(self, key_id: str, at: datetime) -> bool:
        """Make a key invalid from ``at`` on; return False if it was not there, or revoked before."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(API_KEY)
                .where(API_KEY.c.key_id == key_id, API_KEY.c.revoked_at.is_(None))
                .values(revoked_at=to_micros(at))
            )
        return changed.rowcount > 0

    def used(self, key_id: str, at: datetime) -> None:
        """Write down that a key was used."""
        with self._database.write() as connection:
            connection.execute(
                update(API_KEY).where(API_KEY.c.key_id == key_id).values(last_used_at=to_micros(at))
            )


def _record(row: Any) -> KeyRecord:
    return KeyRecord(
        key_id=row.key_id,
        name=row.name,
        roles=tuple(msgspec.json.decode(row.roles, type=list[str])),
        salt=bytes.fromhex(row.salt),
        digest=bytes.fromhex(row.digest),
        created_at=from_micros(row.created_at),
        expires_at=from_micros(row.expires_at),
        revoked_at=from_micros(row.revoked_at),
        last_used_at=from_micros(row.last_used_at),
    )

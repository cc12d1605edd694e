"""The keys of a service that need not run: for the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trace_engine.store.database import Database
from trace_engine.store.keys import KeyStore
from trace_engine.store.place import check_place, place_of

if TYPE_CHECKING:
    from trace_engine.service.settings import ServiceSettings


@contextmanager
def opened(
    settings: ServiceSettings, *, service: bool = False
) -> Iterator[tuple[KeyStore, Database]]:
    """Give the keys in the database of ``settings``, and the database, made where there is none.

    Raises ``StoreError`` where it cannot be used, ``OtherDatabaseError`` where the service uses
    another one, unless it is the ``service`` itself that asks. A running service sees a change within
    ``access.CACHE_SECONDS``.
    """
    if not service:
        check_place(settings.data, place_of(settings.database_url, settings.data))
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database.open(settings.database_url)
    try:
        yield KeyStore(database), database
    finally:
        database.close()

"""Once a day: what is older than the law asks to keep is deleted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trace_engine.store.tables import FINDING

if TYPE_CHECKING:
    from trace_engine.store.audit import AuditLog
    from trace_engine.store.database import Database

FIRST_SECONDS = 600.0  # after the start: a service that starts has better things to do
PERIOD_SECONDS = 86_400.0
_logger = logging.getLogger("trace_engine.service.upkeep")


class Upkeep:
    """Applies the retention to a database, in a thread of its own.

    ``deleted`` is called, in that thread, after findings were deleted.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        years: int,
        *,
        deleted: Callable[[], None] | None = None,
        first: float = FIRST_SECONDS,
        period: float = PERIOD_SECONDS,
    ) -> None:
        self._database = database
        self._audit = audit
        self._years = years
        self._deleted = deleted
        self._first = first
        self._period = period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin to wait for the first time."""
        self._thread.start()

    def close(self, timeout: float = 30.0) -> None:
        """End the thread; a deletion under way ends first, which takes a moment at most."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def once(self) -> dict[str, int]:
        """Delete what is too old now; return rows deleted by table."""
        now = datetime.now(UTC)
        deleted = self._database.apply_retention(self._years, now)
        gone = {table: rows for table, rows in deleted.items() if rows}
        if gone:
            note = {"at": now, "name": "trace-engine", "action": "retention.apply", "details": gone}
            self._audit.add([note])
            _logger.info("deleted what was kept long enough", extra={"rows": gone})
        if FINDING.name in gone and self._deleted is not None:
            self._deleted()
        return deleted

    def _run(self) -> None:
        pause = self._first
        while not self._stop.wait(pause):
            pause = self._period
            try:
                self.once()
            except Exception:
                _logger.exception("the retention could not be applied; tried again tomorrow")

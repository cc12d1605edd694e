"""How many findings there are, without counting them all each time some are stored."""

from __future__ import annotations

import threading

from trace_engine.store.findings_table import FindingStore


class FindingTally:
    """Counts all findings once, and then only those that are new. Thread-safe.

    It asks the database which of the latest are new instead of adding up what callers say, so that
    a transaction whose end was not heard is not missed. Who deletes findings has to
    :meth:`recount`.
    """

    def __init__(self, store: FindingStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._count = 0
        self._through = 0  # the last number counted
        self.recount()

    @property
    def count(self) -> int:
        """How many there were when last looked."""
        return self._count

    def update(self) -> None:
        """Count what was stored since the last look; findings that grew are known already."""
        with self._lock:
            new, self._through = self._store.new_since(self._through)
            self._count += new

    def recount(self) -> None:
        """Count all findings."""
        with self._lock:
            self._count, self._through = self._store.new_since(0)

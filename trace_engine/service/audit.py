"""The way of audit notes from requests to the audit log: one writer thread, many notes a commit.

A request that changes something is answered after its notes are on disk. Notes of what was only
looked at are written in groups, within :data:`LINGER` seconds; while the log cannot be written,
requests that would be noted are refused once :data:`MOST_QUEUED` notes wait, so that nobody looks
at much that is not noted.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, NamedTuple

from trace_engine.events.privacy import Pseudonyms, is_identity_card

LINGER = 0.25  # seconds that a note of a look may wait for others
MOST_QUEUED = 10_000
MOST_TOGETHER = 2_000
_RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
_logger = logging.getLogger("trace_engine.service.audit")
# What every number of an identity card has, however it is spaced: most texts have nothing like it.
_SUSPECT = re.compile(r"(?:\d[\s\-()]*){17}")

Note = dict[str, Any]  # at, key_id, name, address, request_id, action, subject, details


class AuditFullError(Exception):
    """The audit log could not be written for so long that no more notes are taken."""


class _Entry(NamedTuple):
    notes: Sequence[Note]
    done: Future[None] | None


class AuditTrail:
    """Takes notes from any thread and gives them to ``add`` in order."""

    def __init__(self, add: Callable[[list[Note]], object]) -> None:
        self._add = add
        self._queue: queue.Queue[_Entry | None] = queue.Queue(MOST_QUEUED)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.failures = 0  # tries that failed
        self.failing = False  # the last try did

    def start(self) -> None:
        """Start the writer."""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, then end the writer."""
        if self._thread is None:
            return
        self._stop.set()
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            _logger.critical("audit notes were lost", extra={"waiting": self._queue.qsize()})
        self._thread = None

    def put(self, notes: Sequence[Note], *, wait: bool) -> Future[None] | None:
        """Queue ``notes``; with ``wait``, return a future that is done when they are on disk.

        Raises :class:`AuditFullError` when too many wait.
        """
        done: Future[None] | None = Future() if wait else None
        try:
            self._queue.put_nowait(_Entry(notes, done))
        except queue.Full:
            raise AuditFullError from None
        return done

    def _run(self) -> None:
        ending = False
        while not ending:
            first = self._queue.get()
            if first is None:
                return
            entries = [first]
            ending = self._gather(entries)
            self._write(entries)

    def _gather(self, entries: list[_Entry]) -> bool:
        """Add what else waits to ``entries``; return whether the writer is to end."""
        while len(entries) < MOST_TOGETHER:
            urgent = self._stop.is_set() or any(entry.done is not None for entry in entries)
            try:
                entry = self._queue.get(block=not urgent, timeout=None if urgent else LINGER)
            except queue.Empty:
                return False
            if entry is None:
                return True
            entries.append(entry)
        return False

    def _write(self, entries: list[_Entry]) -> None:
        notes = [note for entry in entries for note in entry.notes]
        tries = 0
        while True:
            try:
                self._add(notes)
                self.failing = False
                break
            except Exception:  # a database comes back: notes are kept till then
                self.failures += 1
                self.failing = True
                _logger.exception("the audit log cannot be written", extra={"notes": len(notes)})
                pause = _RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)]
                tries += 1
                if self._stop.is_set():
                    if tries > len(_RETRY_SECONDS):
                        _logger.critical("audit notes were lost", extra={"notes": notes})
                        return
                    time.sleep(min(pause, LINGER))
                else:
                    self._stop.wait(pause)
        for entry in entries:
            # Whoever waited may have given up, which cancels the future.
            if entry.done is not None and entry.done.set_running_or_notify_cancel():
                entry.done.set_result(None)


def masked(value: Any, pseudonyms: Callable[[], Pseudonyms]) -> Any:
    """Return plain JSON values with numbers of identity cards replaced, as events have them.

    Whoever may look for the number of a person may find what was done with it by the same number;
    the log itself holds none. ``pseudonyms`` is asked for only where there is something to replace.
    """
    if isinstance(value, str):
        return _masked_text(value, pseudonyms) if _SUSPECT.search(value) else value
    if isinstance(value, dict):
        return {masked(key, pseudonyms): masked(inner, pseudonyms) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner, pseudonyms) for inner in value]
    return value


def _masked_text(text: str, pseudonyms: Callable[[], Pseudonyms]) -> str:
    if is_identity_card(text):
        return pseudonyms().of(text)
    plain = unicodedata.normalize("NFKC", text)
    found = pseudonyms().mask_identity_cards(plain)
    return text if found == plain else found


def notes_of(state: dict[str, Any], address: str) -> list[Note]:
    """Return the notes that a request's routes left in ``state``, made whole, and forget them."""
    found = state.pop("audit", ())
    if not found:
        return []
    caller = state.get("caller")
    at = datetime.now(UTC)
    return [
        {
            "at": at,
            "key_id": caller.key_id if caller is not None else "",
            "name": caller.name if caller is not None else "",
            "address": address,
            "request_id": state.get("request_id", ""),
            "action": action,
            "subject": subject,
            "details": details,
        }
        for action, subject, details in found
    ]

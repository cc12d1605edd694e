"""Work aside: done one after the other in a daemon thread, so that who gave it need not wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class Aside:
    """A thread that starts with the first work it gets. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def put(self, work: Callable[[], _T]) -> Future[_T]:
        """Return what will hold the outcome of ``work``; cancelled before it begins, it is not."""
        outcome: Future[_T] = Future()
        with self._lock:
            self._queue.put((outcome, work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return outcome

    def close(self, timeout: float) -> None:
        """Do what waits, then end the thread; give up after ``timeout`` seconds."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            outcome, work = entry
            if not outcome.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 (whoever gave the work is told)
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

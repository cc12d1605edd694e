"""A lock that goes to who asked first: the loop cannot starve those who read along."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A fair lock. A plain one goes back to a thread that lets go and asks again at once."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._queue: deque[threading.Event] = deque()

    def __enter__(self) -> Turns:
        with self._mutex:
            if not self._held:
                self._held = True
                return self
            mine = threading.Event()
            self._queue.append(mine)
        mine.wait()  # whoever lets go hands the lock over: it stays held
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._mutex:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._held = False

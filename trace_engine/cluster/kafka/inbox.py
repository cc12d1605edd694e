"""Messages of a partition that were read and not yet taken: a queue with a brim."""

from __future__ import annotations

import threading
from collections import deque

from trace_engine.cluster.kafka.messages import Incoming

_OVERHEAD = 200  # bytes a message takes beside its value


class Inbox:
    """A queue between the thread that reads and the one that judges. Safe for both.

    ``most_bytes`` is the brim: above it :attr:`full` stays true until half has been taken.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.nbytes = 0
        self.full = False
        self._messages: deque[Incoming] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, messages: list[Incoming]) -> None:
        """Append messages."""
        with self._changed:
            self._messages.extend(messages)
            self.nbytes += sum(len(m.value) + _OVERHEAD for m in messages)
            self.full = self.full or self.nbytes > self.most_bytes
            self._changed.notify_all()

    def take(self, most_messages: int, most_bytes: int, timeout: float) -> list[Incoming]:
        """Return the next messages in order, at least one if any comes within ``timeout`` seconds.

        Returns at once after :meth:`wake`.
        """
        with self._changed:
            if not self._messages:
                self._changed.wait(timeout)
            taken: list[Incoming] = []
            size = 0
            while self._messages and len(taken) < most_messages and size < most_bytes:
                message = self._messages.popleft()
                taken.append(message)
                size += len(message.value) + _OVERHEAD
            self.nbytes -= size
            if self.nbytes <= self.most_bytes // 2:
                self.full = False
            return taken

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._messages.clear()
            self.nbytes = 0
            self.full = False

    def wake(self) -> None:
        """Let a waiting :meth:`take` return."""
        with self._changed:
            self._changed.notify_all()

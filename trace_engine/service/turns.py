"""A lock that goes to who asked first: the loop cannot starve those who read along."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trace_engine.cluster.loop import ShardLoop


class StandsStill(Exception):  # noqa: N818 - says what is the case
    """Whoever holds the lock waits for something that may take hours."""


class Turns:
    """A fair lock. A plain one goes back to a thread that lets go and asks again at once.

    While it :meth:`stands <stand_still>` still nobody waits for it: they get :class:`StandsStill`.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._still = False
        self._queue: deque[threading.Event] = deque()
        self._sent_away: set[threading.Event] = set()

    def stand_still(self) -> None:
        """Send away who waits and who comes; called by who holds the lock."""
        with self._mutex:
            self._still = True
            self._sent_away.update(self._queue)
            for waiting in self._queue:
                waiting.set()
            self._queue.clear()

    def go_on(self) -> None:
        """Let them wait again."""
        with self._mutex:
            self._still = False

    def __enter__(self) -> Turns:
        with self._mutex:
            if not self._held:
                self._held = True
                return self
            if self._still:
                raise StandsStill
            mine = threading.Event()
            self._queue.append(mine)
        mine.wait()  # whoever lets go hands the lock over: it stays held
        with self._mutex:
            if mine in self._sent_away:
                self._sent_away.remove(mine)
                raise StandsStill
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


class Room:
    """Has the loop wait for room on a full disk while it holds the lock, and nobody wait for it.

    Requests that wait would take all threads that answer, those of ``/readyz`` among them.
    """

    def __init__(self, loop: ShardLoop, turns: Turns) -> None:
        self._loop = loop
        self._turns = turns

    def wait(self, error: OSError) -> None:
        """Wait before the next try, or raise ``error`` (see ``store.room.WaitsForRoom``)."""
        self._turns.stand_still()
        try:
            self._loop.wait_for_room(error)
        except BaseException:
            self._turns.go_on()
            raise

    def found(self) -> None:
        """Let all go on."""
        self._turns.go_on()
        self._loop.found_room()

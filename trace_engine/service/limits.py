"""How often a key, an address and a wrong key may ask, by the library ``limits`` in memory.

Sliding windows, so that nobody gets a double share at the turn of a second. Counters are of this
process alone: the service is one process.
"""

from __future__ import annotations

import time

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import HTTPConnection

from trace_engine.service.access import Caller
from trace_engine.service.problems import Problem
from trace_engine.service.settings import ServiceSettings


def address_of(request: HTTPConnection) -> str:
    """Return the address that a request came from; behind a trusted proxy, what it says."""
    return request.client.host if request.client is not None else "unknown"


SWEEP_SECONDS = 1.0


class _Storage(MemoryStorage):
    """Counters in memory, without the thread that the library starts for nearly every hit.

    It would forget old counters 10 ms later, each time in a new thread. Here that is done by the
    hit itself, once a second. Should the library name its method otherwise, it does as it likes.
    """

    _swept = 0.0

    def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802 (the library's name)
        now = time.monotonic()
        if now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self._MemoryStorage__expire_events()  # type: ignore[attr-defined]


STRANGERS_SHARE = 8  # of what may be worked on at once, an address without a key gets 1/8


class Places:
    """Requests worked on at once: ``most`` of known callers, and a share of it for each address.

    Whoever has no valid key takes no place of a known caller. For one thread, that of the server.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_address = max(1, most // STRANGERS_SHARE)
        self._known = 0
        self._strangers: dict[str, int] = {}

    @property
    def taken(self) -> int:
        """How many requests are worked on."""
        return self._known + sum(self._strangers.values())

    def take(self, stranger: str | None) -> bool:
        """Take a place for a known caller (None) or an address; return False if none is free."""
        if stranger is None:
            free = self._known < self._most
            self._known += free
            return free
        used = self._strangers.get(stranger, 0)
        if used >= self._most_of_address or sum(self._strangers.values()) >= self._most:
            return False
        self._strangers[stranger] = used + 1
        return True

    def give(self, stranger: str | None) -> None:
        """Give back a place that was taken."""
        if stranger is None:
            self._known -= 1
            return
        self._strangers[stranger] -= 1
        if not self._strangers[stranger]:
            del self._strangers[stranger]


class Limiter:
    """Counts requests; raises a 429 problem with Retry-After where there are too many."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._window = SlidingWindowCounterRateLimiter(_Storage())
        self._per_key = parse_many(settings.rate_per_key)
        self._per_address = parse_many(settings.rate_per_address)
        self._refusals = parse_many(settings.rate_of_refusals)

    def before(self, request: HTTPConnection) -> None:
        """Refuse an address that sent too many wrong keys, before its next is looked at."""
        for item in self._refusals:
            if not self._window.test(item, "refused", address_of(request)):
                raise self._problem(item, "refused", address_of(request))

    def refused(self, request: HTTPConnection) -> None:
        """Count a wrong or missing key."""
        for item in self._refusals:
            self._window.hit(item, "refused", address_of(request))

    def known(self, request: HTTPConnection, caller: Caller) -> None:
        """Count a request of a known caller; an open service counts by address at a key's rate."""
        who = caller.key_id or address_of(request)
        self._take(self._per_key, "key", who)

    def anonymous(self, request: HTTPConnection) -> None:
        """Count a request of nobody known: without a key, or with one that is not valid."""
        self._take(self._per_address, "address", address_of(request))

    def _take(self, items: list[RateLimitItem], what: str, who: str) -> None:
        for item in items:
            if not self._window.hit(item, what, who):
                raise self._problem(item, what, who)

    def _problem(self, item: RateLimitItem, what: str, who: str) -> Problem:
        reset = self._window.get_window_stats(item, what, who).reset_time
        return Problem(
            429,
            "too-many-requests",
            detail=f"at most {item}",
            detail_zh=f"限额：{item}",
            retry_after=max(1.0, reset - time.time()),
        )

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
        """Count a request that needs no key."""
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

"""How the codes of one bill are scanned: by hand one after another, or whole cases at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.simulate import codes as code_numbers
from trace_engine.simulate.market import Ints

CASE_PACKS = 24
MOST_TOGETHER = 960  # packs of a consignment: eight lots of 120


def _primes(limit: int) -> Ints:
    """Return, for each size up to ``limit``, the smallest prime above it."""
    composite = np.zeros(2 * limit + 2, bool)
    composite[:2] = True
    for n in range(2, int(len(composite) ** 0.5) + 1):
        composite[n * n :: n] = True
    primes = np.flatnonzero(~composite)
    found: Ints = primes[np.searchsorted(primes, np.arange(limit + 1), side="right")]
    return found


_PRIME_ABOVE = _primes(MOST_TOGETHER)


def scan_seconds(place: Ints, size: Ints, bill: Ints) -> Ints:
    """Return how many seconds into its bill each pack is scanned: one by one, some 4 s apart.

    ``place`` (below ``size``) of packs is taken in an order of each bill's own, multiples modulo a
    prime, so that a receipt is not scanned in the order of its shipment.
    """
    mixed = (code_numbers.mix(bill) >> np.uint64(33)).astype(np.int64)
    prime = _PRIME_ABOVE[size]
    turn = (place + 1) * (1 + mixed % (prime - 1)) % prime
    after: Ints = turn * (3 + mixed % 3) + (turn * turn + (mixed >> 8)) % 3
    return after


def by_case(place: Ints, load: Ints, bill: Ints) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """Return seconds into the bill, and which packs were scanned by their whole case's code.

    On a quarter of the bills between maker and distributor the codes of whole cases are scanned;
    all packs of one case are booked in one second. ``place`` counts within the consignment.
    """
    mixed = (code_numbers.mix(bill) >> np.uint64(20)).astype(np.int64)
    case = place // CASE_PACKS
    whole = (mixed % 4 == 0) & (case < load // CASE_PACKS)
    single = scan_seconds(place, load, bill)
    return np.where(whole, case * 9 + (mixed + case * case) % 7, single), whole.astype(np.uint8)

"""What custody says of each event: bits of ``Custody.signal`` and the columns beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.records import Records

if TYPE_CHECKING:
    from trace_engine.core.attributes import Mismatches
    from trace_engine.core.conflicts import Conflicts

HOP = 1  # the event made a hop (change of owner that is not a return)
CROSSED = 2  # that hop (or redirected hop) crossed a province border
EARLIER_OWNER = 4  # that hop went to an enterprise that had owned the code before
REDIRECTED = 8  # the event sent a hop on its way elsewhere instead
AFTER_SALE = 16  # moved after its sale to a person, with no consumer return between
REPEAT_SALE = 32  # a further net sale to a person
AFTER_DEAD = 64  # moved after destruction, scrapping, sampling or recall
NO_SOURCE = 128  # giver neither owns the code nor ever received it; the owner is another
UNKNOWN_SOURCE = 256  # as above, but nobody is on record as owner
RECEIPT_MISMATCH = 512  # receipt names a supplier other than the one that shipped it
RECEIPT_ONLY = 1024  # hop by a receipt whose shipment has not been seen (so far)
OWNER_ON_RECORD = 2048  # with RECEIPT_ONLY: the stated supplier owned the code on record
NEW_SALE = 4096  # counts as a sale to a person (not a continued split, not a repeated upload)
PLACED = 8192  # a physical scan at a known place, after an earlier one at another known place
SHIPPED_BETWEEN = 16384  # with PLACED: the scan before was an outgoing one
RETURNED = 32768  # a return that took a hop back
LAST_DATE_ONLY = 65536  # with PLACED: the scan before is date-only
SALE_DATE_ONLY = 131072  # with REPEAT_SALE, AFTER_SALE: the sale before is date-only
VOID_UNMATCHED = 262144  # a void that names no known event of the code
SOURCE_CHECKED = 524288  # the giver's source was checked (owner on record)

_EPOCH_2000 = 946_684_800  # s from 1970-01-01 to 2000-01-01


@dataclass(slots=True)
class Overdue:
    """Hops still waiting when their time was up. All arrays have shape ``(m,)``."""

    seq: npt.NDArray[np.int64]  # event that made the hop
    deadline: npt.NDArray[np.int64]  # day on which it fell due (its beginning)
    owner_on_record: npt.NDArray[np.bool_]  # receipts: the supplier owned the code on record


@dataclass(slots=True)
class Custody:
    """Columns of a slice that custody fills, each of shape ``(n,)``.

    What only few events need is not spread over columns: ask by rows, through the methods.
    """

    signal: npt.NDArray[np.uint32]
    hops: npt.NDArray[np.uint8]  # net hops after the event (saturates at 255)
    crossings: npt.NDArray[np.uint8]  # net province crossings after the event
    run: npt.NDArray[np.uint8]  # hops in a row within dwell, after the event
    sales: npt.NDArray[np.uint8]  # net sales to persons after the event
    owner_before: npt.NDArray[np.int32]  # -1 unknown
    cost: npt.NDArray[np.int32]  # fen the giver paid for this very code; -1 unknown
    previous: npt.NDArray[np.int64]  # log number of the code's event before this one; -1
    events: Records  # records (core.packing.EVENT) in shard order
    results: Records  # records (core.packing.RESULT) in shard order
    position: npt.NDArray[np.int64]  # row -> its place in those; -1 if custody left it out
    order: npt.NDArray[np.int64]  # place in those -> row
    bounds: npt.NDArray[np.int64]  # shard k has the places bounds[k] to bounds[k + 1]
    overdue_shipments: Overdue
    overdue_receipts: Overdue
    # Events and results of codes that were replayed because of voids; their places go on where
    # those above end.
    replayed: tuple[Records, Records] | None = None
    # Events that contradict what is known of packing (core.conflicts); None: there are none.
    conflicts: Conflicts | None = None
    # Events that state other attributes than their code first carried; None: nobody stated any.
    mismatches: Mismatches | None = None

    def rows(self, bits: int) -> npt.NDArray[np.int64]:
        """Return the rows on which any of ``bits`` is set."""
        found: npt.NDArray[np.int64] = np.flatnonzero(self.signal & np.uint32(bits))
        return found

    def _recorded(self, name: str, rows: npt.NDArray[np.int64], which: int) -> Any:
        """Read a field of the events' (0) or results' (1) records at ``rows``."""
        main = (self.events, self.results)[which][name]
        places = self.position[rows]
        if self.replayed is None:
            return main[places]
        later = places >= len(main)
        values = main[np.where(later, 0, places)] if len(main) else np.empty(len(rows), main.dtype)
        values[later] = self.replayed[which][name][places[later] - len(main)]
        return values

    def sale_giver(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Who sold the code before. Only where REPEAT_SALE or AFTER_SALE is set."""
        found: npt.NDArray[np.int32] = self._recorded("sale_giver", rows, 1)
        return found

    def sale_time(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When it was sold before (µs, whole seconds). Only where REPEAT_SALE or AFTER_SALE."""
        return _microseconds(self._recorded("sale_seconds", rows, 1))

    def last_time(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When it was scanned before at another place (µs, whole seconds). Only where PLACED."""
        return _microseconds(self._recorded("last_seconds", rows, 1))

    def last_place(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        """Region index of that scan. Only where PLACED."""
        found: npt.NDArray[np.int16] = self._recorded("last_place", rows, 1)
        return found

    def place(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        """Region index where the event itself was scanned, -1 where that is not certain."""
        found: npt.NDArray[np.int16] = self._recorded("place", rows, 0)
        return found


def _microseconds(seconds: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    return (seconds.astype(np.int64) + _EPOCH_2000) * 1_000_000

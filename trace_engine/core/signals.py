"""What custody says of each event: bits of ``Custody.signal`` and the columns beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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


@dataclass(slots=True)
class Overdue:
    """Hops still waiting when their time was up. All arrays have shape ``(m,)``."""

    seq: npt.NDArray[np.int64]  # event that made the hop
    deadline: npt.NDArray[np.int64]  # day on which it fell due (its beginning)
    owner_on_record: npt.NDArray[np.bool_]  # receipts: the supplier owned the code on record


@dataclass(slots=True)
class Custody:
    """Columns of a slice that custody fills, each of shape ``(n,)``.

    Columns marked * hold a value only where the named signal is set; elsewhere they are undefined.
    """

    signal: npt.NDArray[np.uint32]
    hops: npt.NDArray[np.uint8]  # net hops after the event (saturates at 255)
    crossings: npt.NDArray[np.uint8]  # net province crossings after the event
    run: npt.NDArray[np.uint8]  # hops in a row within dwell, after the event
    sales: npt.NDArray[np.uint8]  # net sales to persons after the event
    owner_before: npt.NDArray[np.int32]  # -1 unknown
    cost: npt.NDArray[np.int32]  # fen the giver paid for this very code; -1 unknown
    previous: npt.NDArray[np.int64]  # log number of the code's event before this one; -1
    sale_giver: npt.NDArray[np.int32]  # * REPEAT_SALE, AFTER_SALE: who sold it before
    sale_time: npt.NDArray[np.int64]  # * REPEAT_SALE, AFTER_SALE: when (µs, whole seconds)
    last_time: npt.NDArray[np.int64]  # * PLACED: time of the scan before (µs, whole seconds)
    last_place: npt.NDArray[np.int16]  # * PLACED: region index of the scan before
    place: npt.NDArray[np.int16]  # * PLACED: region index of this scan
    overdue_shipments: Overdue
    overdue_receipts: Overdue

    def rows(self, bits: int) -> npt.NDArray[np.int64]:
        """Return the rows on which any of ``bits`` is set."""
        found: Any = np.flatnonzero(self.signal & np.uint32(bits))
        return found

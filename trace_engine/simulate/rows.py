"""Rows: simulated events as equal-length integer columns, before they become text.

Strings are written only at the very end (``write.py``): until then a party, city, drug, batch or
bill is its number. ``uid`` numbers the events; a retried upload repeats the ``uid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.events.kinds import EventKind as K

NONE = -1

# Column -> dtype. Times are µs of the Shanghai wall clock; record_time is filled when written.
DTYPES: dict[str, type[np.generic]] = {
    "uid": np.int64,
    "time": np.int64,
    "lag": np.int64,  # µs from event_time to record_time; NONE: the usual one of its bill
    "kind": np.int8,  # events.kinds.EventKind
    "code": np.uint64,  # see codes.py
    "actor": np.int32,  # number in Market.parties
    "source": np.int32,
    "target": np.int32,
    "source_city": np.int16,  # index into cities.CITIES
    "target_city": np.int16,
    "drug": np.int32,  # declared drug_id: index into Market.drugs, or NONE
    "batch": np.int32,  # index into Market.batches
    "quantity": np.int32,
    "price": np.int32,  # fen
    "bill": np.int64,
    "from_bill": np.int64,
    "order": np.int64,
    "buyer": np.int64,
    "prescription": np.int64,
    "shop": np.int32,  # index into Market.shops: an online sale
    "flags": np.uint8,  # SPLIT, GIFT, CASE, OUTER
    "receivable": np.int32,
    "voids": np.int64,  # uid of the event cancelled
    "detail": np.int32,  # record of details.Details, or NONE: what is usual (see details.py)
}
DEFAULTS: dict[str, int] = {"flags": 0, "quantity": 1}  # every other column defaults to NONE
COLUMN_NAMES: tuple[str, ...] = tuple(DTYPES)

SPLIT = 1
GIFT = 2
CASE = 4  # a pack of a whole case, that was scanned by the case's code
OUTER = 8  # the code is a case's

# Sales between enterprises and their receipts bear invoices; these and transfers carry goods.
SALE_KINDS = tuple(
    int(k) for k in (K.SALE_SHIPMENT, K.PURCHASE_RECEIPT, K.DIRECT_SHIPMENT, K.SUPPLY_SHIPMENT)
)
COLD_STEPS = (*SALE_KINDS, int(K.TRANSFER_SHIPMENT), int(K.TRANSFER_RECEIPT))

STRUCT = np.dtype(list(DTYPES.items()))


class Rows:
    """Equal-length columns (``DTYPES``) of events."""

    __slots__ = ("columns",)

    def __init__(self, columns: dict[str, npt.NDArray[Any]]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["uid"])

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.columns[name]

    def __setitem__(self, name: str, value: npt.NDArray[Any]) -> None:
        self.columns[name] = value.astype(DTYPES[name], copy=False)

    @classmethod
    def of(cls, count: int, **given: Any) -> Rows:
        """Return ``count`` rows; columns not given hold their default, scalars are spread."""
        columns: dict[str, npt.NDArray[Any]] = {}
        for name, dtype in DTYPES.items():
            value = given.pop(name, DEFAULTS.get(name, NONE))
            if np.ndim(value):
                columns[name] = np.asarray(value).astype(dtype, copy=False)
            else:
                columns[name] = np.full(count, value, dtype)
        if given:
            raise TypeError(f"no such columns: {sorted(given)}")
        return cls(columns)

    @classmethod
    def concat(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of all ``parts`` in order (at least one part)."""
        return cls({name: np.concatenate([p.columns[name] for p in parts]) for name in DTYPES})

    def take(self, index: npt.NDArray[Any]) -> Rows:
        """Return the rows of an index or boolean mask, copied."""
        return Rows({name: column[index] for name, column in self.columns.items()})

    def struct(self) -> npt.NDArray[Any]:
        """Return the rows as one packed structured array (to spool them to disk)."""
        out = np.empty(len(self), STRUCT)
        for name, column in self.columns.items():
            out[name] = column
        return out

    @classmethod
    def from_struct(cls, packed: npt.NDArray[Any]) -> Rows:
        """Return the rows of :meth:`struct`."""
        return cls({name: np.ascontiguousarray(packed[name]) for name in DTYPES})

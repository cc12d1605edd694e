"""What follows from other columns of an event: parties, product, flags."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.core.kernel import kernel
from trace_engine.events import batch as b
from trace_engine.events.hashing import finish, mix
from trace_engine.events.kinds import INCOMING, INFO, OUTGOING, EventKind, Role

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]

# What the kernel needs to know of each event kind.
_OUTGOING, _INCOMING, _PERSON_SALE = 1, 2, 4
KIND_BITS: UInt8 = np.array(
    [
        _OUTGOING * (kind in OUTGOING)
        + _INCOMING * (kind in INCOMING)
        + _PERSON_SALE * (INFO[kind].role == Role.PERSON_SALE)
        for kind in EventKind
    ],
    np.uint8,
)


@kernel
def add_extra(total: UInt64, hashes: UInt64, salt: np.uint64) -> None:
    """Fold one more column into hashes of content; rows without a value stay as they are."""
    for i in range(len(total)):
        if hashes[i] != np.uint64(0):
            total[i] += finish(mix(salt, hashes[i]))


@kernel
def complete(
    kind: npt.NDArray[np.int8],
    time: Int64,
    kind_bits: UInt8,
    actor: Int32,
    source: Int32,
    target: Int32,
    drug: Int32,
    code_drug: Int32,
    platform: Int32,
    shop: Int32,
    prescription: UInt64,
    split_sale: Bool,
    gift: Bool,
    month_only: Bool,
    stated: Bool,
    flags: UInt8,
) -> None:
    """Fill in what follows from other columns: parties, product, flags. In place, all ``(n,)``.

    ``split_sale``, ``gift``, ``month_only`` and ``stated`` may be empty: false everywhere.
    ``kind_bits`` has an entry for each event kind.
    """
    for i in range(len(kind)):
        bits = kind_bits[kind[i]]
        if source[i] < 0 and bits & _OUTGOING:
            source[i] = actor[i]
        if bits & _PERSON_SALE:
            target[i] = -1
        elif target[i] < 0 and bits & _INCOMING:
            target[i] = actor[i]
        flag = 0
        if drug[i] >= 0:
            flag |= b.DRUG_DECLARED
        else:
            drug[i] = code_drug[i]
        if platform[i] >= 0 or shop[i] >= 0:
            flag |= b.ONLINE
        if time[i] % b.DAY == 0:
            flag |= b.DATE_ONLY
        if prescription[i] != np.uint64(0):
            flag |= b.PRESCRIPTION
        if len(split_sale) > 0 and split_sale[i]:
            flag |= b.SPLIT_SALE
        if len(gift) > 0 and gift[i]:
            flag |= b.GIFT
        if len(month_only) > 0 and month_only[i]:
            flag |= b.EXPIRY_MONTH_ONLY
        if len(stated) > 0 and stated[i]:
            flag |= b.QUANTITY_STATED
        flags[i] = flag

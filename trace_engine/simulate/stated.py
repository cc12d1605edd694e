"""What single rows of schemes and twins state otherwise than usual (see ``details.py``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trace_engine.simulate.rows import NONE

EMPTY = -2  # in a record: the row states nothing; NONE: what is usual
COLUMNS = (
    "device",
    "operator",
    "pharmacist",
    "doctor",
    "temperature",
    "invoice",
    "contact",
    "address",
    "buyer_device",
    "parent",
    "pack_level",
)
DEVICES, OPERATORS, PHARMACISTS, DOCTORS = 16, 16, 4, 16  # numbers set aside for each party


class Details:
    """Records of what single rows state otherwise than usual, by number."""

    def __init__(self) -> None:
        self._records: dict[str, list[int]] = {name: [] for name in COLUMNS}

    def __len__(self) -> int:
        return len(self._records["device"])

    def add(self, stated: dict[str, int]) -> int:
        """Remember what a row states (``COLUMNS``) and return the record's number."""
        for name, values in self._records.items():
            values.append(stated.get(name, NONE))
        return len(self) - 1

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of all records; ``parent`` as uint64 with 0 for NONE, else int64."""
        values = self._records[name]
        if name == "parent":
            return np.array([max(0, v) for v in values], np.uint64)
        return np.array(values, np.int64)


def device_of(party: int, number: int = 0) -> int:
    """Return the number of a party's device, for ``detail`` records."""
    return party * DEVICES + number


def operator_of(party: int, number: int = 0) -> int:
    """Return the number of a party's operator."""
    return party * OPERATORS + number


def pharmacist_of(party: int, number: int = 0) -> int:
    """Return the number of a party's pharmacist: 0 in the morning, 1 from half past two on."""
    return party * PHARMACISTS + number


def doctor_of(party: int, number: int = 0) -> int:
    """Return the number of a doctor of a hospital or clinic."""
    return party * DOCTORS + number

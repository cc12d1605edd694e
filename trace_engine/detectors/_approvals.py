"""What the drug registry says of approvals, and which identifiers were given out abroad."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trace_engine.registry import RegistryView
from trace_engine.registry.identifiers import check_approval

Days = npt.NDArray[np.int32]

NO_NUMBER, GOOD, BAD, OTHER_LICENCE = range(4)  # status of an approval number
ALWAYS, NEVER = -(2**30), 2**30  # days: no first day, no last day
_NUMBER_YEAR = re.compile(r"([0-9]{4})[0-9]{4}$")


def foreign_gtin(text: str) -> bool:
    """Return whether a drug identifier is a GTIN-14 given out in another country."""
    if len(text) != 14 or not (text.isascii() and text.isdigit()):
        return False
    prefix = int(text[1:4])
    home = 690 <= prefix <= 699
    own = 20 <= prefix <= 29 or 40 <= prefix <= 49 or 200 <= prefix <= 299
    return not (home or own or prefix >= 977 or prefix == 0)


class Approvals:
    """What the drug registry says of approvals: arrays by its rows (the last entry: unknown)."""

    def __init__(self, view: RegistryView) -> None:
        self.view = view
        table = view.registry.table("drugs")
        n = 0 if table is None else int(table.num_rows)
        numbers = self._texts(table, "approval_no", n)
        exempt = view.row_classes() & view.class_mask("hospital_preparation", "tcm_granules")
        status = [self._status(number) for number in numbers]
        self.status = np.append(np.array(status, np.int8), np.int8(NO_NUMBER))
        self.status[np.append(exempt[:n] != 0, False)] = OTHER_LICENCE
        first = self._days(table, "valid_from", n, ALWAYS)
        last = self._days(table, "valid_to", n, NEVER)
        self._join_entries(self._texts(table, "drug_id", n), first, last)
        years = [_NUMBER_YEAR.search(number) for number in numbers]
        given = np.array([int(y[1]) if y else -1 for y in years], np.int64)
        began = first.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
        first[given != began] = ALWAYS
        self.first = np.append(first, np.int32(ALWAYS))
        self.last = np.append(last, np.int32(NEVER))
        self._foreign = np.zeros(0, np.bool_)

    def foreign(self) -> npt.NDArray[np.bool_]:
        """Return which drugs of the vocabulary are foreign GTINs; one entry more for -1."""
        values = self.view.vocabulary.drugs.values
        done = max(len(self._foreign) - 1, 0)
        count = len(values)
        if count > done or len(self._foreign) == 0:
            new = np.array([foreign_gtin(text) for text in values[done:count]], np.bool_)
            self._foreign = np.concatenate([self._foreign[:done], new, [False]])
        return self._foreign

    @staticmethod
    def _texts(table: pa.Table | None, name: str, n: int) -> list[str]:
        if table is None or name not in table.column_names:
            return [""] * n
        return [
            re.sub(r"\s", "", unicodedata.normalize("NFKC", text or ""))
            for text in table.column(name).to_pylist()
        ]

    @staticmethod
    def _status(number: str) -> int:
        if not number:
            return NO_NUMBER
        return GOOD if check_approval(number) else BAD

    @staticmethod
    def _days(table: pa.Table | None, name: str, n: int, missing: int) -> Days:
        if table is None or name not in table.column_names:
            return np.full(n, missing, np.int32)
        days = table.column(name).cast(pa.int32()).fill_null(missing).to_numpy()
        return np.array(days, np.int32)

    @staticmethod
    def _join_entries(ids: list[str], first: Days, last: Days) -> None:
        """Give all entries of one drug the first of their first days and the last of the last."""
        if not ids:
            return
        _, group = np.unique(np.array(ids), return_inverse=True)
        earliest = np.full(len(ids), NEVER, np.int32)
        latest = np.full(len(ids), ALWAYS, np.int32)
        np.minimum.at(earliest, group, first)
        np.maximum.at(latest, group, last)
        first[:], last[:] = earliest[group], latest[group]


@lru_cache(maxsize=4)
def approvals_of(view: RegistryView) -> Approvals:
    """Return what the registry of ``view`` says of approvals (read once)."""
    return Approvals(view)


def foreign_drugs(view: RegistryView) -> npt.NDArray[np.bool_]:
    """Return which drugs of the vocabulary are GTINs of another country; one entry more for -1."""
    return approvals_of(view).foreign()

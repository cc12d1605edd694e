"""RegistryView: the registry as dense arrays addressed by vocabulary ids.

What detectors and kernels read. All arrays are C-contiguous. Parties and drugs the registry does
not know have the neutral values named below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trace_engine.registry.prepare import DrugRows, EnterpriseRows, gather_lists, recall_rows
from trace_engine.registry.regions import load_regions
from trace_engine.registry.types import (
    ENTERPRISE_TYPE_EN,
    ENTERPRISE_TYPE_ZH,
    EnterpriseType,
)

if TYPE_CHECKING:
    from trace_engine.events.batch import Vocabulary
    from trace_engine.registry import Registry

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Recalls:
    """Recalls as arrays of shape ``(m,)``, sorted by drug, batch and day.

    ``batch`` -1: every batch. ``province`` 0: the whole country; ``city`` -1: the whole province.
    ``level`` 1 to 3, 0 where it is not stated. ``effective``: days since 1970-01-01.
    """

    drug: Int32
    batch: Int32
    effective: Int32
    level: npt.NDArray[np.int8]
    province: npt.NDArray[np.int8]
    city: Int32

    def __len__(self) -> int:
        return len(self.drug)


class RegistryView:
    """Arrays by party id and by drug id. Call :meth:`refresh` after the vocabulary has grown.

    By party id (shape ``(number of parties,)``):

    ========================  ==========  =====================================================
    ``party_known``           bool        in ``enterprises``
    ``party_row``             int32       its row there; -1
    ``party_region``          int16       index into regions; -1
    ``party_province``        int8        first two digits of its region; 0 unknown
    ``party_type``            int8        :class:`EnterpriseType`; 0 unknown
    ``party_group``           int32       equal = same group or same legal person; -1 none
    ``party_single_place``    bool        has a region and no warehouse registered in another
    ``party_licensed``        bool        has a licence number, or no enterprise states any
    ``dispatch_offsets``      int64       ``(n + 1,)``: lists into the two arrays below
    ``dispatch_regions``      int16       places it may ship from: its own region, its
                                          warehouses, and those of its group's headquarters
    ``dispatch_cities``       int32       city keys of the same places
    ========================  ==========  =====================================================

    By drug id: ``drug_known`` bool, ``drug_row`` int32 (-1), ``drug_classes`` uint64 (bits of
    :attr:`class_bits`), ``drug_capacity`` int32 (units in a pack; -1 unknown or above 250).
    """

    def __init__(self, registry: Registry, vocabulary: Vocabulary) -> None:
        self.registry = registry
        self.vocabulary = vocabulary
        self.regions = load_regions()
        self._enterprises = EnterpriseRows(registry.table("enterprises"))
        self._drugs = DrugRows(registry.table("drugs"))
        self.class_bits: dict[str, int] = self._drugs.class_bits
        self.recalls = Recalls(*recall_rows(registry.table("recalls"), vocabulary))
        self._allocate_parties(0)
        self._allocate_drugs(0)
        self.refresh()

    def has(self, name: str) -> bool:
        """Return whether the registry has rows in the table ``name``."""
        return self.registry.has(name)

    def refresh(self) -> None:
        """Extend the arrays to all parties and drugs of the vocabulary; nothing new is a no-op."""
        parties, drugs = len(self.vocabulary.parties), len(self.vocabulary.drugs)
        if parties > len(self.party_known):
            self._extend_parties(parties)
        if drugs > len(self.drug_known):
            self._extend_drugs(drugs)

    def _allocate_parties(self, n: int) -> None:
        self.party_row: Int32 = np.full(n, -1, np.int32)
        self._fill_parties()

    def _allocate_drugs(self, n: int) -> None:
        self.drug_row: Int32 = np.full(n, -1, np.int32)
        self._fill_drugs()

    def _extend_parties(self, n: int) -> None:
        new = self.vocabulary.parties.values[len(self.party_row) : n]
        self.party_row = np.concatenate([self.party_row, self._enterprises.rows(new)])
        self._fill_parties()

    def _fill_parties(self) -> None:
        # Row -1 reads the neutral entry that EnterpriseRows keeps at the end of each column.
        table, row = self._enterprises, self.party_row
        self.party_known: npt.NDArray[np.bool_] = row >= 0
        self.party_region: npt.NDArray[np.int16] = table.region[row]
        self.party_province: npt.NDArray[np.int8] = table.province[row]
        self.party_type: npt.NDArray[np.int8] = table.type[row]
        self.party_group: Int32 = table.group[row]
        self.party_single_place: npt.NDArray[np.bool_] = table.single_place[row]
        self.party_licensed: npt.NDArray[np.bool_] = table.licensed[row]
        offsets, regions = gather_lists(table.dispatch_offsets, table.dispatch_regions, row)
        self.dispatch_offsets: npt.NDArray[np.int64] = offsets
        self.dispatch_regions: npt.NDArray[np.int16] = regions
        self.dispatch_cities: Int32 = self.regions.city[regions]

    def _extend_drugs(self, n: int) -> None:
        new = self.vocabulary.drugs.values[len(self.drug_row) : n]
        self.drug_row = np.concatenate([self.drug_row, self._drugs.rows(new)])
        self._fill_drugs()

    def _fill_drugs(self) -> None:
        table, row = self._drugs, self.drug_row
        self.drug_known: npt.NDArray[np.bool_] = row >= 0
        self.drug_classes: npt.NDArray[np.uint64] = table.classes[row]
        self.drug_capacity: Int32 = table.capacity[row]

    def class_mask(self, *names: str) -> np.uint64:
        """Return the mask of the named classes; names no drug has add nothing."""
        mask = 0
        for name in names:
            if name in self.class_bits:
                mask |= 1 << self.class_bits[name]
        return np.uint64(mask)

    def party_text(self, party: int, column: str) -> str:
        """Return a text column of ``enterprises`` for a party; empty if it has none."""
        row = -1 if party < 0 else int(self.party_row[party])
        return self._enterprises.text(row, column)

    def drug_text(self, drug: int, column: str) -> str:
        """Return a text column of ``drugs`` for a drug; empty if it has none."""
        row = -1 if drug < 0 else int(self.drug_row[drug])
        return self._drugs.text(row, column)

    def party_name(self, party: int) -> str:
        """Return the registered name, else the id, else ``未知企业``."""
        if party < 0:
            return "未知企业"
        return self.party_text(party, "name") or self.vocabulary.parties.text(party)

    def party_region_code(self, party: int) -> str:
        """Return the registered region as a GB/T 2260 code; empty if unknown."""
        return "" if party < 0 else self.regions.code(int(self.party_region[party]))

    def drug_name(self, drug: int) -> str:
        """Return the generic name, else the trade name, else the id, else ``未知药品``."""
        if drug < 0:
            return "未知药品"
        return (
            self.drug_text(drug, "generic_name")
            or self.drug_text(drug, "name")
            or self.vocabulary.drugs.text(drug)
        )

    def enterprise_type_name(self, party: int, lang: str = "zh") -> str:
        """Return the type of a party in words (``lang`` ``zh`` or ``en``)."""
        kind = EnterpriseType.UNKNOWN if party < 0 else EnterpriseType(int(self.party_type[party]))
        return (ENTERPRISE_TYPE_ZH if lang == "zh" else ENTERPRISE_TYPE_EN)[kind]

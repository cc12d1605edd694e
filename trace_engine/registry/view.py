"""RegistryView: the registry as dense arrays addressed by vocabulary ids.

What detectors and kernels read. All arrays are C-contiguous. Parties and drugs the registry does
not know have the neutral values named below.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.registry.channels import Shops, Territories
from trace_engine.registry.licences import Licences, build_licences
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

Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]

_COLUMN_TYPES: dict[str, type[np.generic]] = {
    "party_row": np.int32,
    "party_known": np.bool_,
    "party_region": np.int16,
    "party_province": np.int8,
    "party_type": np.int8,
    "party_group": np.int32,
    "party_single_place": np.bool_,
    "party_licensed": np.bool_,
    "dispatch_offsets": np.int64,
    "dispatch_regions": np.int16,
    "dispatch_cities": np.int32,
    "drug_row": np.int32,
    "drug_known": np.bool_,
    "drug_classes": np.uint64,
    "drug_capacity": np.int32,
    "drug_packs_in_case": np.int32,
}


class _Growing:
    """A column that grows at its end in amortised constant time per entry."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._buffer: npt.NDArray[Any] = np.empty(0, dtype)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def extend(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Append ``values`` and return the whole column, a contiguous view of the buffer.

        Views returned before stay valid and unchanged, only shorter.
        """
        end = self._used + len(values)
        if end > len(self._buffer):
            larger = np.empty(max(end, 2 * len(self._buffer), 1024), self._buffer.dtype)
            larger[: self._used] = self._buffer[: self._used]
            self._buffer = larger
        self._buffer[self._used : end] = values
        self._used = end
        return self._buffer[:end]


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
    :attr:`class_bits`), ``drug_capacity`` int32 (units in a pack; -1 unknown or above 250),
    ``drug_packs_in_case`` int32 (smallest packs in a case; -1 unknown).

    By platform id: ``platform_party`` int32 (party id of the registered enterprise that runs it; -1).

    By row of ``enterprises`` (``party_row``; -1 reads the neutral entry): :attr:`licences`,
    ``row_group``. ``shops`` and ``territories`` are None where the registry has no such table.
    """

    def __init__(self, registry: Registry, vocabulary: Vocabulary) -> None:
        self.registry = registry
        self.vocabulary = vocabulary
        self.regions = load_regions()
        self._enterprises = EnterpriseRows(registry.table("enterprises"))
        self._drugs = DrugRows(registry.table("drugs"))
        self.class_bits: dict[str, int] = self._drugs.class_bits
        self.recalls = Recalls(*recall_rows(registry.table("recalls"), vocabulary))
        self.row_group: Int32 = self._enterprises.group
        shops, territories = registry.table("shops"), registry.table("territories")
        self.shops = Shops(shops, self._enterprises) if shops is not None and len(shops) else None
        self.territories = (
            Territories(territories, self._enterprises)
            if territories is not None and len(territories)
            else None
        )
        self._columns = {name: _Growing(dtype) for name, dtype in _COLUMN_TYPES.items()}
        self._parties_done = self._drugs_done = 0
        self.platform_party: Int32 = np.empty(0, np.int32)
        self._extend_platforms()
        self._extend_parties()
        self._extend_drugs()
        self._extend_channels()

    def has(self, name: str) -> bool:
        """Return whether the registry has rows in the table ``name``."""
        return self.registry.has(name)

    def refresh(self) -> None:
        """Extend the arrays to all parties and drugs of the vocabulary; nothing new is a no-op."""
        if len(self.vocabulary.platforms) > len(self.platform_party):
            self._extend_platforms()  # first: it may add parties
        if len(self.vocabulary.parties) > self._parties_done:
            self._extend_parties()
        if len(self.vocabulary.drugs) > self._drugs_done:
            self._extend_drugs()
        self._extend_channels()

    def _extend_platforms(self) -> None:
        """Find the enterprises that run the platforms; those registered become parties."""
        new = self.vocabulary.platforms.values[len(self.platform_party) :]
        known = self._enterprises.by_id
        parties = [self.vocabulary.parties.id(text) if text in known else -1 for text in new]
        self.platform_party = np.append(self.platform_party, np.array(parties, np.int32))

    def _extend_channels(self) -> None:
        if self.shops is not None:
            self.shops.refresh(self.vocabulary.shops.values, self.vocabulary.platforms.values)
        if self.territories is not None:
            self.territories.refresh(self.vocabulary.drugs.values)

    @cached_property
    def licences(self) -> Licences:
        """What the registry says of each enterprise's right to trade, by row (built when asked)."""
        return build_licences(
            self._enterprises, self.registry.table("licence_events"), self.class_bits
        )

    def _extend_parties(self) -> None:
        table = self._enterprises
        row = table.rows(self.vocabulary.parties.values[self._parties_done :])
        self._parties_done += len(row)
        grow = self._columns
        # Row -1 reads the neutral entry that EnterpriseRows keeps at the end of each column.
        self.party_row: Int32 = grow["party_row"].extend(row)
        self.party_known: npt.NDArray[np.bool_] = grow["party_known"].extend(row >= 0)
        self.party_region: Int16 = grow["party_region"].extend(table.region[row])
        self.party_province: Int8 = grow["party_province"].extend(table.province[row])
        self.party_type: Int8 = grow["party_type"].extend(table.type[row])
        self.party_group: Int32 = grow["party_group"].extend(table.group[row])
        self.party_single_place: npt.NDArray[np.bool_] = grow["party_single_place"].extend(
            table.single_place[row]
        )
        self.party_licensed: npt.NDArray[np.bool_] = grow["party_licensed"].extend(
            table.licensed[row]
        )
        offsets, regions = gather_lists(table.dispatch_offsets, table.dispatch_regions, row)
        if len(grow["dispatch_offsets"]) == 0:
            grow["dispatch_offsets"].extend(offsets[:1])
        offsets = offsets[1:] + len(grow["dispatch_regions"])
        self.dispatch_offsets: npt.NDArray[np.int64] = grow["dispatch_offsets"].extend(offsets)
        self.dispatch_regions: Int16 = grow["dispatch_regions"].extend(regions)
        self.dispatch_cities: Int32 = grow["dispatch_cities"].extend(self.regions.city[regions])

    def _extend_drugs(self) -> None:
        row = self._drugs.rows(self.vocabulary.drugs.values[self._drugs_done :])
        self._drugs_done += len(row)
        grow = self._columns
        self.drug_row: Int32 = grow["drug_row"].extend(row)
        self.drug_known: npt.NDArray[np.bool_] = grow["drug_known"].extend(row >= 0)
        self.drug_classes: npt.NDArray[np.uint64] = grow["drug_classes"].extend(
            self._drugs.classes[row]
        )
        self.drug_capacity: Int32 = grow["drug_capacity"].extend(self._drugs.capacity[row])
        self.drug_packs_in_case: Int32 = grow["drug_packs_in_case"].extend(
            self._drugs.packs_in_case[row]
        )

    def row_classes(self) -> npt.NDArray[np.uint64]:
        """Return the class masks by row of ``drugs``, and a last entry 0 for unknown drugs."""
        return self._drugs.classes

    def class_mask(self, *names: str) -> np.uint64:
        """Return the mask of the named classes; names no drug has add nothing."""
        mask = 0
        for name in names:
            if name in self.class_bits:
                mask |= 1 << self.class_bits[name]
        return np.uint64(mask)

    def party_text(self, party: int, column: str) -> str:
        """Return a text column of ``enterprises`` for a party; empty if it has none."""
        return self._enterprises.text(self._row_of_party(party), column)

    def _row_of_party(self, party: int) -> int:
        """Return the row of a party, also of one that came after the last :meth:`refresh`.

        Who reads along while events come in must not refresh: the arrays are in use.
        """
        if party < 0:
            return -1
        if party < len(self.party_row):
            return int(self.party_row[party])
        return int(self._enterprises.rows([self.vocabulary.parties.text(party)])[0])

    def drug_text(self, drug: int, column: str) -> str:
        """Return a text column of ``drugs`` for a drug; empty if it has none."""
        if drug < 0:
            row = -1
        elif drug < len(self.drug_row):
            row = int(self.drug_row[drug])
        else:  # it came after the last refresh, as in _row_of_party
            row = int(self._drugs.rows([self.vocabulary.drugs.text(drug)])[0])
        return self._drugs.text(row, column)

    def party_name(self, party: int) -> str:
        """Return the registered name, else the id, else ``未知企业``."""
        if party < 0:
            return "未知企业"
        return self.party_text(party, "name") or self.vocabulary.parties.text(party)

    def party_region_code(self, party: int) -> str:
        """Return the registered region as a GB/T 2260 code; empty if unknown."""
        if party < 0:
            return ""
        return self.regions.code(int(self._enterprises.region[self._row_of_party(party)]))

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
        kind = EnterpriseType(int(self._enterprises.type[self._row_of_party(party)]))
        return (ENTERPRISE_TYPE_ZH if lang == "zh" else ENTERPRISE_TYPE_EN)[kind]

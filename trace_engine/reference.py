"""Reference data as custody takes it: plain arrays, renewed as the vocabulary grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trace_engine.core.movements import Settings
from trace_engine.core.owners import PARTY
from trace_engine.core.packing import Reference
from trace_engine.core.records import Records
from trace_engine.registry.regions import load_regions

if TYPE_CHECKING:
    from trace_engine.policy import Policy
    from trace_engine.registry import RegistryView


class ReferenceData:
    """Arrays by party, drug and region that custody reads."""

    def __init__(self, view: RegistryView) -> None:
        self._view = view
        self._size = (-1, -1)
        self._reference: Reference | None = None
        self._parties: Records = np.empty(0, PARTY)

    def arrays(self) -> tuple[Reference, Records]:
        """Return (arrays for packing, records by party), after the view was refreshed."""
        # By the view and not by the vocabulary, which may have grown since the view was refreshed.
        size = (len(self._view.party_province), len(self._view.drug_capacity))
        if self._reference is None or size != self._size:
            view, regions = self._view, load_regions()
            self._parties = np.empty(len(view.party_province), PARTY)
            self._parties["group"] = view.party_group
            self._parties["province"] = view.party_province
            self._reference = Reference(
                province=_plain(view.party_province, np.int8),
                group=_plain(view.party_group, np.int32),
                region=_plain(view.party_region, np.int16),
                single_place=_plain(view.party_single_place, np.bool_),
                capacity=_plain(view.drug_capacity, np.int32),
                packs_in_case=_plain(view.drug_packs_in_case, np.int32),
                region_province=_plain(regions.province, np.int8),
                region_is_province=_plain(regions.is_province, np.bool_),
            )
            self._size = size
        return self._reference, self._parties

    def settings(self, policy: Policy, detectors: Mapping[str, Any], day: int) -> Settings:
        """Return the policy values custody needs on ``day``.

        Raises ``LookupError`` if the catalogue lacks a detector whose limits custody watches.
        """

        def parameters(name: str) -> Any:
            return policy.parameters(name, detectors[name].parameters, day)

        return Settings(
            dwell_seconds=int(parameters("rapid_turnover").dwell_hours * 3600),
            skew_seconds=policy.general(day).clock_skew_minutes * 60,
            shipment_days=parameters("unmatched_shipment").days,
            receipt_days=parameters("unmatched_receipt").days,
        )


def _plain(array: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    # Each flavour of an array compiles anew: writable and contiguous everywhere.
    return np.array(array, dtype=dtype, order="C")

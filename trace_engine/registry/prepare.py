"""Turn registry tables into arrays by row; the last entry of each stands for "not registered"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.registry.regions import Regions, load_regions
from trace_engine.registry.types import (
    CLASS_BITS,
    CLASS_NAMES_ACCEPTED,
    ENTERPRISE_TYPE_NAMES,
    MAXIMUM_CLASSES,
    EnterpriseType,
)

if TYPE_CHECKING:
    from trace_engine.events.batch import Vocabulary

MAXIMUM_CAPACITY = 250  # units in a pack beyond which split sales are not followed
LIST_SEPARATORS = re.compile(r"[;；,，、|]")

_UNITS = re.compile(
    r"(\d+)\s*(片|粒|支|袋|丸|贴|枚|瓶|喷|揿|吸|单位剂量|tablets?|capsules?)", re.IGNORECASE
)
_MULTIPLIER = re.compile(
    r"[×xX*＊✕·]\s*(\d+)\s*(?:板|瓶|袋|包|小盒|小袋|条|管|支)(?!\s*[×xX*＊✕]\s*1\b)"
)
_VOLUME = re.compile(r"(\d+)\s*(?:ml|毫升|g|克)", re.IGNORECASE)
_LEVEL = {"1": 1, "2": 2, "3": 3, "一级": 1, "二级": 2, "三级": 3, "Ⅰ": 1, "Ⅱ": 2, "Ⅲ": 3}
_LEVEL |= {"I": 1, "II": 2, "III": 3, "一级召回": 1, "二级召回": 2, "三级召回": 3}
_NATIONWIDE = {"", "0", "全国", "中国", "000000", "100000", "nationwide"}


def split_list(value: str | None) -> list[str]:
    """Split a joined field (``;`` and its usual stand-ins) into stripped, non-empty parts."""
    return [part.strip() for part in LIST_SEPARATORS.split(value or "") if part.strip()]


def pack_capacity(pack_spec: str | None) -> int:
    """Return how many units a smallest pack holds, or -1.

    ``12片×2板/盒`` is 24, ``24片/盒`` 24, ``10ml×6支`` 6, ``100ml/瓶`` 100 (a liquid is counted in
    millilitres). Above :data:`MAXIMUM_CAPACITY`: -1.
    """
    if not pack_spec:
        return -1
    match = _UNITS.search(pack_spec)
    if match and match.group(2) == "瓶" and _VOLUME.search(pack_spec):
        match = None if int(match.group(1)) == 1 else match
    if match is None:
        match = _VOLUME.search(pack_spec)
        if match is None:
            return -1
        units = int(match.group(1))
    else:
        units = int(match.group(1))
        for factor in _MULTIPLIER.finditer(pack_spec, match.end()):
            units *= int(factor.group(1))
    return units if 0 < units <= MAXIMUM_CAPACITY else -1


def by_value(column: pa.ChunkedArray, dtype: Any, convert: Any, missing: int) -> npt.NDArray[Any]:
    """Convert each distinct text of a column once; null gives ``missing``. Shape ``(rows,)``."""
    encoded = pc.dictionary_encode(column)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    values = np.array([convert(v) for v in encoded.dictionary.to_pylist()] + [missing], dtype)
    indices = encoded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
    result: npt.NDArray[Any] = values[indices]
    return result


def _with_neutral(values: npt.NDArray[Any], neutral: Any) -> npt.NDArray[Any]:
    return np.append(values, np.array([neutral], values.dtype))


def gather_lists(
    offsets: npt.NDArray[np.int64], values: npt.NDArray[Any], rows: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Return the lists of ``rows`` (CSR) one after another; row -1 is the last list."""
    if len(rows) == 0:
        return np.zeros(1, np.int64), values[:0]
    index = np.where(rows < 0, len(offsets) - 2, rows).astype(np.int64)
    starts = offsets[index]
    lengths = offsets[index + 1] - starts
    out = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    positions = np.arange(out[-1]) + np.repeat(starts - out[:-1], lengths)
    return out, np.ascontiguousarray(values[positions])


class _Rows:
    """Common part: look up rows by id, read texts."""

    def __init__(self, table: pa.Table | None, key: str) -> None:
        self.table = table if table is not None and table.num_rows else None
        self.by_id: dict[str, int] = {}
        if self.table is not None:
            for row, value in enumerate(self.table.column(key).to_pylist()):
                if value is not None:
                    self.by_id.setdefault(value, row)

    def __len__(self) -> int:
        return 0 if self.table is None else int(self.table.num_rows)

    def rows(self, ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the row of each id, -1 where it is not registered."""
        get = self.by_id.get
        return np.fromiter((get(value, -1) for value in ids), np.int32, len(ids))

    def column(self, name: str) -> pa.ChunkedArray | None:
        """Return a column, or None where the file has none."""
        if self.table is None or name not in self.table.column_names:
            return None
        return self.table.column(name)

    def text(self, row: int, name: str) -> str:
        """Return one cell as text; empty for row -1, a missing column or a null."""
        column = self.column(name) if row >= 0 else None
        value = None if column is None else column[row].as_py()
        return "" if value is None else str(value)


class EnterpriseRows(_Rows):
    """Columns of ``enterprises`` by row, each with one neutral entry at the end."""

    def __init__(self, table: pa.Table | None) -> None:
        super().__init__(table, "enterprise_id")
        n = len(self)
        regions = load_regions()
        region = self._int("region", np.int16, regions.index, -1)
        self.region = _with_neutral(region, -1)
        self.province = np.where(self.region >= 0, regions.province[self.region], 0).astype(np.int8)
        kinds = self._int("type", np.int8, enterprise_type, 0)
        self.type = _with_neutral(kinds, 0)
        self.group = _with_neutral(self._groups(), -1)
        licence = self.column("licence_no")
        licensed = (
            np.ones(n, np.bool_)
            if licence is None
            else pc.is_valid(licence).to_numpy(zero_copy_only=False)
        )
        self.licensed = _with_neutral(licensed.astype(np.bool_), False)
        self._add_warehouses(regions)
        self._add_uscc_ids()

    def _int(self, name: str, dtype: Any, convert: Any, missing: int) -> npt.NDArray[Any]:
        column = self.column(name)
        if column is None:
            return np.full(len(self), missing, dtype)
        return by_value(column, dtype, convert, missing)

    def _add_uscc_ids(self) -> None:
        """Let events name an enterprise by its credit code, where only one enterprise has it."""
        column = self.column("uscc")
        if column is None:
            return
        counts: dict[str, list[int]] = {}
        for row, value in enumerate(column.to_pylist()):
            if value is not None:
                counts.setdefault(value, []).append(row)
        for value, rows in counts.items():
            if len(rows) == 1:
                self.by_id.setdefault(value, rows[0])

    def _groups(self) -> npt.NDArray[np.int32]:
        """Number the groups: rows with one ``group_id`` or one credit code belong together."""
        n = len(self)
        root = list(range(n))

        def find(row: int) -> int:
            while root[row] != row:
                root[row] = root[root[row]]
                row = root[row]
            return row

        grouped = np.zeros(n, np.bool_)
        for name in ("group_id", "uscc"):
            column = self.column(name)
            if column is None:
                continue
            first: dict[str, int] = {}
            for row, value in enumerate(column.to_pylist()):
                if value is None:
                    continue
                grouped[row] |= name == "group_id"
                before = first.setdefault(value, row)
                if before != row:
                    grouped[row] = grouped[before] = True
                    a, b = find(before), find(row)
                    root[max(a, b)] = min(a, b)
        out = np.full(n, -1, np.int32)
        numbers: dict[int, int] = {}
        for row in np.flatnonzero(grouped).tolist():
            out[row] = numbers.setdefault(find(row), len(numbers))
        return out

    def _add_warehouses(self, regions: Regions) -> None:
        """Fill ``single_place`` and the places each enterprise may ship from."""
        n = len(self)
        column = self.column("warehouse_regions")
        texts = [None] * n if column is None else column.to_pylist()
        parsed: dict[str, list[int]] = {}
        places: list[list[int]] = []
        single = np.zeros(n + 1, np.bool_)
        for row, text in enumerate(texts):
            if text is None:
                warehouses: list[int] = []
            else:
                if text not in parsed:
                    found = [regions.index(code) for code in split_list(text)]
                    parsed[text] = [index for index in found if index >= 0]
                warehouses = parsed[text]
            own = int(self.region[row])
            places.append([own, *warehouses] if own >= 0 else list(warehouses))
            single[row] = own >= 0 and all(index == own for index in warehouses)
        headquarters: dict[int, list[int]] = {}
        for row in np.flatnonzero(self.type[:n] == EnterpriseType.CHAIN_HQ).tolist():
            group = int(self.group[row])
            if group >= 0:
                headquarters.setdefault(group, []).extend(places[row])
        offsets = np.zeros(n + 2, np.int64)
        flat: list[int] = []
        for row in range(n):
            extra = headquarters.get(int(self.group[row]), ())
            flat.extend(dict.fromkeys((*places[row], *extra)))
            offsets[row + 1] = len(flat)
        offsets[n + 1] = len(flat)
        self.single_place = single
        self.dispatch_offsets = offsets
        self.dispatch_regions = np.array(flat, np.int16)


class DrugRows(_Rows):
    """Columns of ``drugs`` by row, each with one neutral entry at the end.

    A drug with several rows (periods of validity) is read by its latest one.
    """

    def __init__(self, table: pa.Table | None) -> None:
        super().__init__(table, "drug_id")
        self._use_latest()
        for value, row in list(self.by_id.items()):
            # A GTIN may be registered as 8, 12 or 13 digits; codes carry 14.
            if len(value) in (8, 12, 13) and value.isascii() and value.isdigit():
                self.by_id.setdefault(value.zfill(14), row)
        self.class_bits: dict[str, int] = dict(CLASS_BITS)
        column = self.column("classes")
        masks = (
            np.zeros(len(self), np.uint64)
            if column is None
            else by_value(column, np.uint64, self._mask, 0)
        )
        self.classes = _with_neutral(masks, 0)
        spec = self.column("pack_spec")
        capacity = (
            np.full(len(self), -1, np.int32)
            if spec is None
            else by_value(spec, np.int32, pack_capacity, -1)
        )
        self.capacity = _with_neutral(capacity, -1)

    def _use_latest(self) -> None:
        column = self.column("valid_from")
        if column is None or self.table is None:
            return
        days = column.cast(pa.int32()).fill_null(-(2**31)).to_numpy()
        for row, value in enumerate(self.table.column("drug_id").to_pylist()):
            if value is not None and days[row] > days[self.by_id[value]]:
                self.by_id[value] = row

    def _mask(self, text: str) -> int:
        mask = 0
        for part in split_list(text):
            name = CLASS_NAMES_ACCEPTED.get(part) or part.lower()
            name = CLASS_NAMES_ACCEPTED.get(name, name)
            bit = self.class_bits.get(name)
            if bit is None and len(self.class_bits) < MAXIMUM_CLASSES:
                bit = self.class_bits[name] = len(self.class_bits)
            if bit is not None:
                mask |= 1 << bit
        return mask


def enterprise_type(text: str) -> EnterpriseType:
    """Return the type named by ``text`` (contract name or Chinese); UNKNOWN for anything else."""
    found = ENTERPRISE_TYPE_NAMES.get(text) or ENTERPRISE_TYPE_NAMES.get(text.lower())
    return found or EnterpriseType.UNKNOWN


def recall_level(text: str | None) -> int:
    """Return 1, 2 or 3, or 0 where the level is missing or not one of the three."""
    return _LEVEL.get((text or "").strip().upper(), 0)


def recall_rows(table: pa.Table | None, vocabulary: Vocabulary) -> tuple[npt.NDArray[Any], ...]:
    """Return drug, batch, effective, level, province and city of all recalls, sorted.

    Recalled drugs and batches enter the vocabulary, so that the arrays never change afterwards.
    Rows without a drug or a day, or with a range that names no region, are left out (they are
    among the registry's problems).
    """
    regions = load_regions()
    rows: list[tuple[int, int, int, int, int, int]] = []
    if table is not None:
        days = table.column("effective").cast(pa.int32()).to_pylist()
        drugs = table.column("drug_id").to_pylist()
        n = table.num_rows

        def texts(name: str) -> list[str | None]:
            names = table.column_names
            return table.column(name).to_pylist() if name in names else [None] * n

        columns = (texts("batch_no"), texts("level"), texts("range_region"))
        for drug, day, batch, level, area in zip(drugs, days, *columns, strict=True):
            if drug is None or day is None:
                continue
            for place in [""] if (area or "") in _NATIONWIDE else split_list(area):
                index = regions.index(place) if place else -1
                if place and index < 0:
                    continue
                wide = index < 0 or bool(regions.is_province[index])
                rows.append(
                    (
                        vocabulary.drugs.id(drug),
                        vocabulary.batches.id(batch) if batch else -1,
                        day,
                        recall_level(level),
                        int(regions.province[index]) if index >= 0 else 0,
                        -1 if wide else int(regions.city[index]),
                    )
                )
    rows.sort()
    array = np.array(rows, np.int64).reshape(-1, 6)
    kinds = (np.int32, np.int32, np.int32, np.int8, np.int8, np.int32)
    return tuple(np.ascontiguousarray(array[:, i].astype(kind)) for i, kind in enumerate(kinds))

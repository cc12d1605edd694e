"""Turn registry tables into arrays by row; the last entry of each stands for "not registered"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.registry.pack_ratio import packs_in_case
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
    offsets: npt.NDArray[np.int64], values: npt.NDArray[Any], rows: npt.NDArray[Any]
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

    def _encoded(self, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Number the distinct texts of a column (-1 for null or no column); and the texts."""
        column = self.column(name)
        if column is None:
            return np.full(len(self), -1, np.int64), []
        encoded = pc.dictionary_encode(column).combine_chunks()
        return np.asarray(encoded.indices.fill_null(-1), np.int64), encoded.dictionary.to_pylist()

    def _add_uscc_ids(self) -> None:
        """Let events name an enterprise by its credit code, where only one enterprise has it."""
        codes, texts = self._encoded("uscc")
        alone = (codes >= 0) & (np.bincount(codes + 1, minlength=1)[codes + 1] == 1)
        for row in np.flatnonzero(alone).tolist():
            self.by_id.setdefault(texts[codes[row]], row)

    def _groups(self) -> npt.NDArray[np.int32]:
        """Number the groups: rows with one ``group_id`` or one credit code belong together."""
        label, person = self._encoded("group_id")[0], self._encoded("uscc")[0]
        shared = (person >= 0) & (np.bincount(person + 1, minlength=1)[person + 1] > 1)
        # A shared credit code without a group is a group of its own, numbered after the others.
        own = label.max(initial=-1) + 1 + person
        label = np.where((label < 0) & shared, own, label)
        root: dict[int, int] = {}

        def find(node: int) -> int:
            while root.get(node, node) != node:
                node = root[node]
            return node

        first: dict[int, int] = {}
        for row in np.flatnonzero(shared).tolist():
            a, b = find(first.setdefault(int(person[row]), int(label[row]))), find(int(label[row]))
            root[max(a, b)] = min(a, b)
        if root:
            nodes = np.array(sorted(root), np.int64)
            renamed = np.array([find(node) for node in nodes.tolist()], np.int64)
            place = np.minimum(np.searchsorted(nodes, label), len(nodes) - 1)
            label = np.where(nodes[place] == label, renamed[place], label)
        _, numbers = np.unique(label, return_inverse=True)
        return (numbers - int((label < 0).any())).astype(np.int32)

    def _add_warehouses(self, regions: Regions) -> None:
        """Fill ``single_place`` and the places each enterprise may ship from."""
        n = len(self)
        own = self.region[:n]
        has_region = own >= 0
        own_lists = (np.append(0, np.cumsum(has_region)), own[has_region])
        # Warehouses: each distinct text is parsed once.
        codes, texts = self._encoded("warehouse_regions")
        parsed = [[regions.index(code) for code in split_list(text)] for text in texts]
        known = [[index for index in found if index >= 0] for found in parsed]
        warehouses = gather_lists(*_flatten([*known, []]), codes)
        elsewhere = warehouses[1] != np.repeat(own, np.diff(warehouses[0]))
        others = np.add.reduceat(np.append(elsewhere, False), warehouses[0][:-1]) if n else own
        others = np.where(np.diff(warehouses[0]) > 0, others, 0)
        self.single_place = _with_neutral(has_region & (others == 0), False)
        # What a group's headquarters may ship from, its stores may too.
        places = _join_lists(own_lists, warehouses)
        group = self.group[:n]
        of_group: list[list[int]] = [[] for _ in range(int(group.max(initial=-1)) + 1)]
        chief = (self.type[:n] == EnterpriseType.CHAIN_HQ) & (group >= 0)
        for row in np.flatnonzero(chief).tolist():
            of_group[group[row]].extend(places[1][places[0][row] : places[0][row + 1]].tolist())
        distinct = [list(dict.fromkeys(indices)) for indices in of_group]
        shared = gather_lists(*_flatten([*distinct, []]), group)
        offsets, values = _join_lists(places, shared)
        self.dispatch_offsets = np.append(offsets, offsets[-1])
        self.dispatch_regions = values.astype(np.int16)


Lists = tuple[npt.NDArray[np.int64], npt.NDArray[Any]]


def _flatten(lists: Sequence[Sequence[int]]) -> Lists:
    """Return lists as offsets and values."""
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(values) for values in lists], out=offsets[1:])
    return offsets, np.array([value for values in lists for value in values], np.int16)


def _join_lists(first: Lists, second: Lists) -> Lists:
    """Join two columns of lists row by row."""
    offsets = first[0] + second[0]
    values = np.empty(int(offsets[-1]), np.int16)
    for part, before in ((first, second[0][:-1]), (second, first[0][1:])):
        # A row's entries move right by what stands before them from the other column.
        positions = np.arange(len(part[1])) + np.repeat(before, np.diff(part[0]))
        values[positions] = part[1]
    return offsets, values


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
        in_case = (
            np.full(len(self), -1, np.int32)
            if spec is None
            else by_value(spec, np.int32, packs_in_case, -1)
        )
        self.packs_in_case = _with_neutral(in_case, -1)

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

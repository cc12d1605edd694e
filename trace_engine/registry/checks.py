"""Row-level checks of the registry: collected as problems, never stopping a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.registry.identifiers import (
    Check,
    check_approval,
    check_gtin,
    check_licence,
    check_region,
    check_uscc,
    licence_province,
)
from trace_engine.registry.prepare import enterprise_type, recall_level, split_list
from trace_engine.registry.regions import load_regions
from trace_engine.registry.types import (
    ENTERPRISE_TYPE_NAMES,
    STATUS_NAMES,
    EnterpriseType,
    Problem,
)

_NATIONWIDE = {"0", "全国", "中国", "000000", "100000", "nationwide"}
_OUTCOMES = {"violation", "clean", "违法", "不合格", "合格", "未发现问题"}


def check_tables(tables: Mapping[str, pa.Table], labels: Mapping[str, str]) -> list[Problem]:
    """Return all problems of ``tables``, ordered by file, row and column."""
    problems: list[Problem] = []
    for name, checks in _CHECKS.items():
        table = tables.get(name)
        if table is not None and table.num_rows:
            for check in checks:
                problems.extend(check(table, labels[name]))
    return sorted(problems, key=lambda p: (p.file, p.row, p.column))


_TableCheck = Callable[[pa.Table, str], Iterator[Problem]]


def _cells(table: pa.Table, column: str) -> Iterator[tuple[int, str]]:
    """Yield (row from 1, text) of the cells that hold something."""
    if column in table.column_names:
        for row, value in enumerate(table.column(column).to_pylist(), start=1):
            if value is not None:
                yield row, value


def _unique_id(column: str, *also: str) -> _TableCheck:
    def check(table: pa.Table, file: str) -> Iterator[Problem]:
        keys = [column, *(name for name in also if name in table.column_names)]
        seen: dict[tuple[object, ...], int] = {}
        values = (table.column(name).to_pylist() for name in keys)
        for row, key in enumerate(zip(*values, strict=True), start=1):
            if key[0] is None:
                yield Problem(file, row, column, "", "an id; the row is not used")
                continue
            first = seen.setdefault(key, row)
            if first != row:
                expected = f"every id once; row {first} is used"
                yield Problem(file, row, column, str(key[0]), expected)

    return check


def _each(column: str, test: Callable[[str], Check]) -> _TableCheck:
    """Check each distinct text once; report every row that has a bad one."""

    def check(table: pa.Table, file: str) -> Iterator[Problem]:
        results: dict[str, Check] = {}
        for row, value in _cells(table, column):
            result = results.get(value)
            if result is None:
                result = results[value] = test(value)
            if not result:
                yield Problem(file, row, column, value, _expected(result))

    return check


def _expected(result: Check) -> str:
    return f"a valid value: {result.reason_en} ({result.reason_zh})"


def _one_of(column: str, accepted: Mapping[str, object] | set[str], shown: str) -> _TableCheck:
    def test(value: str) -> Check:
        fine = value in accepted or value.lower() in accepted
        return Check(fine, "不在允许的取值中", f"should be one of {shown}")

    return _each(column, test)


def _region_list(value: str) -> Check:
    for part in split_list(value):
        result = check_region(part)
        if not result:
            return Check(False, f"{part}{result.reason_zh}", f"{part} {result.reason_en}")
    return Check(True)


def _recall_range(value: str) -> Check:
    return Check(True) if value in _NATIONWIDE else _region_list(value)


def _licences(table: pa.Table, file: str) -> Iterator[Problem]:
    """Licence format against the enterprise's type, and its province against the others."""
    columns = table.column_names

    def texts(name: str) -> list[str | None]:
        return table.column(name).to_pylist() if name in columns else [None] * table.num_rows

    regions = load_regions()
    rows = zip(texts("licence_no"), texts("type"), texts("uscc"), texts("region"), strict=True)
    for row, (licence, kind_text, uscc, region) in enumerate(rows, start=1):
        kind = enterprise_type(kind_text) if kind_text else EnterpriseType.UNKNOWN
        if licence is not None:
            result = check_licence(licence, kind)
            if not result:
                yield Problem(file, row, "licence_no", licence, _expected(result))
        index = regions.index(region) if region else -1
        provinces = {
            "licence_no": licence_province(licence or ""),
            "uscc": int(uscc[2:4]) if uscc and uscc[2:4].isdigit() else 0,
        }
        # Codes registered with central or provincial authorities (10xxxx) name no province.
        known = {k: v for k, v in provinces.items() if f"{v:02d}" in regions.province_names}
        if index >= 0:
            own = int(regions.province[index])
            for column, province in known.items():
                if province != own:
                    value = licence if column == "licence_no" else uscc
                    yield Problem(
                        file,
                        row,
                        column,
                        str(value),
                        f"province {own} of region {region} (许可证或信用代码省份与区划不符)",
                    )
        elif len(known) == 2 and known["licence_no"] != known["uscc"]:
            expected = f"province {known['uscc']} of the credit code (与信用代码省份不符)"
            yield Problem(file, row, "licence_no", str(licence), expected)


def _periods(first: str, last: str) -> _TableCheck:
    def check(table: pa.Table, file: str) -> Iterator[Problem]:
        if {first, last} <= set(table.column_names):
            wrong = pc.less(table.column(last), table.column(first)).fill_null(False)
            for row, is_wrong in enumerate(wrong.to_pylist()):
                if is_wrong:
                    value = str(table.column(last)[row].as_py())
                    begin = table.column(first)[row].as_py()
                    yield Problem(file, row + 1, last, value, f"a day not before {first} {begin}")

    return check


def _not_null(column: str) -> _TableCheck:
    def check(table: pa.Table, file: str) -> Iterator[Problem]:
        for row, value in enumerate(table.column(column).to_pylist(), start=1):
            if value is None:
                yield Problem(file, row, column, "", "a value; the row is not used")

    return check


def _drug_id(value: str) -> Check:
    """A drug is named by the 7 digits of its codes, by a GTIN, or by an id of the user's own."""
    if value.isascii() and value.isdigit() and len(value) in (8, 12, 13, 14):
        return check_gtin(value)
    return Check(True)


def _level(value: str) -> Check:
    return Check(recall_level(value) > 0, "召回级别应为1、2或3", "should be 1, 2 or 3")


_TYPES = ", ".join(t.contract_name for t in EnterpriseType if t)

_CHECKS: dict[str, tuple[_TableCheck, ...]] = {
    "enterprises": (
        _unique_id("enterprise_id"),
        _each("uscc", check_uscc),
        _one_of("type", ENTERPRISE_TYPE_NAMES, _TYPES),
        _one_of("status", STATUS_NAMES, "active, suspended, cancelled, revoked"),
        _each("region", check_region),
        _each("warehouse_regions", _region_list),
        _licences,
        _periods("licence_from", "licence_to"),
    ),
    "drugs": (
        _unique_id("drug_id", "valid_from"),
        _each("drug_id", _drug_id),
        _each("approval_no", check_approval),
        _periods("valid_from", "valid_to"),
    ),
    "shops": (_unique_id("shop_id", "reported_from"), _periods("reported_from", "reported_to")),
    "recalls": (
        _not_null("drug_id"),
        _not_null("effective"),
        _each("level", _level),
        _each("range_region", _recall_range),
    ),
    "territories": (
        _not_null("drug_id"),
        _each("region", check_region),
        _periods("valid_from", "valid_to"),
    ),
    "licence_events": (_not_null("enterprise_id"), _not_null("date")),
    "inspections": (
        _not_null("enterprise_id"),
        _not_null("date"),
        _one_of("outcome", _OUTCOMES, "violation, clean"),
    ),
}

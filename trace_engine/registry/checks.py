"""Row-level checks of the registry: collected as problems, never stopping a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trace_engine.registry.identifiers import (
    Check,
    certainly_uscc,
    check_approval,
    check_gtin,
    check_licence,
    check_region,
    check_uscc,
    licence_province,
)
from trace_engine.registry.prepare import by_value, enterprise_type, recall_level, split_list
from trace_engine.registry.regions import load_regions
from trace_engine.registry.types import (
    ENTERPRISE_TYPE_NAMES,
    STATUS_NAMES,
    EnterpriseType,
    Problem,
)

Int64 = npt.NDArray[np.int64]

_NATIONWIDE = {"0", "全国", "中国", "000000", "100000", "nationwide"}
_NO_ID = "有编码（本行未采用）"
_NO_VALUE = "有值（本行未采用）"
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
                yield Problem(file, row, column, "", "an id; the row is not used", _NO_ID)
                continue
            first = seen.setdefault(key, row)
            if first != row:
                yield Problem(
                    file,
                    row,
                    column,
                    str(key[0]),
                    f"every id once; row {first} is used",
                    f"唯一编码（已采用第{first}行）",
                )

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
                yield _invalid(file, row, column, value, result)

    return check


def _invalid(file: str, row: int, column: str, value: str, result: Check) -> Problem:
    return Problem(
        file,
        row,
        column,
        value,
        f"a valid value: {result.reason_en}",
        f"有效值（{result.reason_zh}）",
    )


def _one_of(column: str, accepted: Mapping[str, object] | set[str], shown: str) -> _TableCheck:
    def test(value: str) -> Check:
        fine = value in accepted or value.lower() in accepted
        return Check(fine, f"只能是{shown}之一", f"should be one of {shown}")

    return _each(column, test)


def _region_list(value: str) -> Check:
    for part in split_list(value):
        result = check_region(part)
        if not result:
            return Check(False, f"{part}{result.reason_zh}", f"{part} {result.reason_en}")
    return Check(True)


def _recall_range(value: str) -> Check:
    return Check(True) if value in _NATIONWIDE else _region_list(value)


def _credit_codes(table: pa.Table, file: str) -> Iterator[Problem]:
    if "uscc" in table.column_names:
        column = table.column("uscc")
        doubtful = ~certainly_uscc(column) & column.is_valid().to_numpy()
        for row in np.flatnonzero(doubtful).tolist():
            value = column[row].as_py()
            yield _invalid(file, row + 1, "uscc", value, check_uscc(value))


def _licences(table: pa.Table, file: str) -> Iterator[Problem]:
    """Licence format, against the enterprise's type."""
    if "licence_no" not in table.column_names:
        return
    n = table.num_rows
    licences = table.column("licence_no").to_pylist()
    kinds = table.column("type").to_pylist() if "type" in table.column_names else [None] * n
    types = {text: enterprise_type(text) if text else EnterpriseType.UNKNOWN for text in set(kinds)}
    for row, (licence, kind) in enumerate(zip(licences, kinds, strict=True), start=1):
        if licence is not None:
            result = check_licence(licence, types[kind])
            if not result:
                yield _invalid(file, row, "licence_no", licence, result)


def _provinces(table: pa.Table, file: str) -> Iterator[Problem]:
    """The province of licence and credit code against that of the region, or each other."""
    regions = load_regions()
    n = table.num_rows

    def provinces(name: str, convert: Callable[[str], int], start: int, stop: int) -> Int64:
        if name not in table.column_names:
            return np.zeros(n, np.int64)
        part = pc.utf8_slice_codeunits(table.column(name), start, stop)
        return by_value(part, np.int64, convert, 0)

    def of_region(code: str) -> int:
        index = regions.index(code)
        return int(regions.province[index]) if index >= 0 else 0

    def of_digits(text: str) -> int:
        # Codes of central registration (10xxxx) name no province.
        return int(text) if text in regions.province_names else 0

    own = provinces("region", of_region, 0, 12)
    licence = provinces("licence_no", licence_province, 0, 1)
    person = provinces("uscc", of_digits, 2, 4)
    for column, found in (("licence_no", licence), ("uscc", person)):
        for row in np.flatnonzero((found > 0) & (own > 0) & (found != own)).tolist():
            value = str(table.column(column)[row])
            yield Problem(
                file,
                row + 1,
                column,
                value,
                f"one of province {own[row]}, as its region",
                f"与行政区划同省（{own[row]}）",
            )
    apart = (own == 0) & (licence > 0) & (person > 0) & (licence != person)
    for row in np.flatnonzero(apart).tolist():
        yield Problem(
            file,
            row + 1,
            "licence_no",
            str(table.column("licence_no")[row]),
            f"one of province {person[row]}, as its credit code",
            f"与统一社会信用代码同省（{person[row]}）",
        )


def _periods(first: str, last: str) -> _TableCheck:
    def check(table: pa.Table, file: str) -> Iterator[Problem]:
        if {first, last} <= set(table.column_names):
            wrong = pc.less(table.column(last), table.column(first)).fill_null(False)
            for row, is_wrong in enumerate(wrong.to_pylist()):
                if is_wrong:
                    value = str(table.column(last)[row].as_py())
                    begin = table.column(first)[row].as_py()
                    yield Problem(
                        file,
                        row + 1,
                        last,
                        value,
                        f"a day not before {first} {begin}",
                        f"不早于{first} {begin}的日期",
                    )

    return check


def _not_null(column: str) -> _TableCheck:
    def check(table: pa.Table, file: str) -> Iterator[Problem]:
        for row, value in enumerate(table.column(column).to_pylist(), start=1):
            if value is None:
                yield Problem(file, row, column, "", "a value; the row is not used", _NO_VALUE)

    return check


def _status_dates(table: pa.Table, file: str) -> Iterator[Problem]:
    """A status other than active needs the day from which it holds."""
    n = table.num_rows
    dated = (
        table.column("status_date").is_valid().to_numpy()
        if "status_date" in table.column_names
        else np.zeros(n, np.bool_)
    )
    for row, value in _cells(table, "status"):
        name = STATUS_NAMES.get(value) or STATUS_NAMES.get(value.lower())
        if name not in (None, "active") and not dated[row - 1]:
            yield Problem(
                file,
                row,
                "status_date",
                "",
                f"the day from which {value} holds; without it the status is not judged",
                f"状态“{value}”的起始日期（缺少时该状态不作判断）",
            )


def _allotted_to_somebody(table: pa.Table, file: str) -> Iterator[Problem]:
    """A territory names an enterprise, a region or both."""
    n = table.num_rows
    stated = np.zeros(n, np.bool_)
    for name in ("enterprise_id", "region"):
        if name in table.column_names:
            stated |= table.column(name).is_valid().to_numpy()
    for row in np.flatnonzero(~stated).tolist():
        yield Problem(
            file,
            row + 1,
            "region",
            "",
            "an enterprise_id or a region; the row is not used",
            "企业编码或行政区划代码（本行未采用）",
        )


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
        _credit_codes,
        _one_of("type", ENTERPRISE_TYPE_NAMES, _TYPES),
        _one_of("status", STATUS_NAMES, "active, suspended, cancelled, revoked"),
        _each("region", check_region),
        _each("warehouse_regions", _region_list),
        _licences,
        _status_dates,
        _provinces,
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
        _allotted_to_somebody,
        _periods("valid_from", "valid_to"),
    ),
    "licence_events": (_not_null("enterprise_id"), _not_null("kind"), _not_null("date")),
    "inspections": (
        _not_null("enterprise_id"),
        _not_null("date"),
        _one_of("outcome", _OUTCOMES, "violation, clean"),
    ),
}

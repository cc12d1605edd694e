"""Read the files of a registry folder into Arrow tables of known columns and types.

CSV (UTF-8 with or without BOM, or GB18030) and Parquet. Headers may be the contract's names or the
usual Chinese ones. Unknown columns are kept as they come. Anything that makes a file unusable is a
:class:`RegistryError` of one line.
"""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from trace_engine.registry.types import RegistryError

TEXT, DATE, NUMBER = pa.string(), pa.date32(), pa.float64()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the contract: Arrow type, Chinese headers that mean it, whether it must exist."""

    type: pa.DataType
    titles: tuple[str, ...] = ()
    required: bool = False


def _text(*titles: str, required: bool = False) -> Column:
    return Column(TEXT, titles, required)


def _date(*titles: str, required: bool = False) -> Column:
    return Column(DATE, titles, required)


_ENTERPRISE_ID = ("企业编码", "企业ID", "企业标识")
_DRUG_ID = ("药品标识码", "药品编码", "药品ID")

SCHEMAS: dict[str, dict[str, Column]] = {
    "enterprises": {
        "enterprise_id": _text(*_ENTERPRISE_ID, required=True),
        "name": _text("企业名称", "名称"),
        "uscc": _text("统一社会信用代码", "社会信用代码"),
        "type": _text("企业类型", "类型"),
        "region": _text("行政区划代码", "行政区划", "区划代码", "地区代码"),
        "licence_no": _text("许可证编号", "许可证号", "经营许可证编号", "药品经营许可证编号"),
        "licence_from": _date("许可证起始日期", "发证日期"),
        "licence_to": _date("许可证有效期至", "有效期至"),
        "status": _text("状态", "经营状态"),
        "status_date": _date("状态日期"),
        "scope": _text("经营范围"),
        "controller_id": _text("实际控制人", "实控人"),
        "legal_person": _text("法定代表人", "法人"),
        "phone": _text("联系电话", "电话"),
        "address": _text("地址", "注册地址", "住所"),
        "warehouse_regions": _text("仓库区划代码", "仓库地区", "仓库区划"),
        "group_id": _text("集团编码", "所属集团"),
    },
    "drugs": {
        "drug_id": _text(*_DRUG_ID, required=True),
        "generic_name": _text("通用名", "药品通用名", "通用名称"),
        "name": _text("药品名称", "商品名"),
        "approval_no": _text("批准文号", "国药准字"),
        "holder_id": _text("上市许可持有人", "持有人编码"),
        "form": _text("剂型"),
        "strength": _text("规格", "制剂规格"),
        "pack_spec": _text("包装规格"),
        "classes": _text("分类", "药品类别"),
        "valid_from": _date("生效日期"),
        "valid_to": _date("失效日期"),
    },
    "shops": {
        "shop_id": _text("店铺编码", "店铺ID", required=True),
        "platform_id": _text("平台编码"),
        "enterprise_id": _text(*_ENTERPRISE_ID),
        "name": _text("店铺名称"),
        "url": _text("网址", "链接"),
        "reported_from": _date("备案日期", "报告日期"),
        "reported_to": _date("备案截止日期"),
    },
    "recalls": {
        "drug_id": _text(*_DRUG_ID, required=True),
        "batch_no": _text("批号", "产品批号"),
        "level": _text("召回级别", "召回等级"),
        "range_region": _text("召回范围"),
        "effective": _date("生效日期", "召回日期", required=True),
    },
    "territories": {
        "drug_id": _text(*_DRUG_ID, required=True),
        "enterprise_id": _text(*_ENTERPRISE_ID),
        "region": _text("行政区划代码", "授权区域"),
        "valid_from": _date("生效日期"),
        "valid_to": _date("失效日期"),
    },
    "licence_events": {
        "enterprise_id": _text(*_ENTERPRISE_ID, required=True),
        "kind": _text("事项", "变更类型", required=True),
        "date": _date("日期", required=True),
    },
    "inspections": {
        "enterprise_id": _text(*_ENTERPRISE_ID, required=True),
        "date": _date("检查日期", "日期", required=True),
        "kind": _text("检查类型"),
        "outcome": _text("检查结果", "结果", required=True),
        "drug_id": _text(*_DRUG_ID),
        "inclusion_probability": Column(NUMBER, ("入样概率",)),
    },
}

_CSV_SUFFIXES = (".csv", ".txt")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_OPEN_ENDED = {"长期", "长期有效", "永久", "-", "—", "9999-12-31", "99991231"}
_DATE_PATTERNS = (
    re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[ T].*)?"),
    re.compile(r"(\d{4})(\d{2})(\d{2})"),
    re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日"),
)


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file of a table in ``folder``, or None; two for one table are refused."""
    found = [
        path
        for suffix in (*_PARQUET_SUFFIXES, *_CSV_SUFFIXES)
        if (path := folder / f"{name}{suffix}").is_file()
    ]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise RegistryError(
            f"{folder}: found both {names}, expected one file for {name}",
            f"{folder}：{'、'.join(path.name for path in found)}同时存在，{name}只能有一个文件",
        )
    return found[0] if found else None


def read_table(path: Path, name: str) -> pa.Table:
    """Return the file as a table: columns of the contract first-class, others as they come."""
    try:
        is_parquet = path.suffix.lower() in _PARQUET_SUFFIXES
        table = pq.read_table(path) if is_parquet else _read_csv(path)
    except (OSError, pa.ArrowException) as error:
        line = " ".join(str(error).split())
        raise RegistryError(
            f"{path.name}: cannot be read: {line}", f"{path.name}：无法读取：{line}"
        ) from error
    return conform(table, name, path.name)


def _read_csv(path: Path) -> pa.Table:
    data = path.read_bytes()
    if not data.strip():
        raise RegistryError(
            f"{path.name}: found an empty file, expected a header line",
            f"{path.name}：文件为空，至少应有表头行",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError as error:
            raise RegistryError(
                f"{path.name}: found bytes that are neither UTF-8 nor GB18030 "
                f"at offset {error.start}, expected one of the two",
                f"{path.name}：第{error.start}字节起既不是UTF-8也不是GB18030编码",
            ) from None
    header_line = text.split("\n", 1)[0]
    delimiter = max(",\t;", key=header_line.count)
    raw = io.BytesIO(text.encode("utf-8"))
    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values='"' in text)
    columns = pa_csv.open_csv(io.BytesIO(raw.getvalue()), parse_options=parse).schema.names
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
    )
    return pa_csv.read_csv(raw, parse_options=parse, convert_options=convert)


def conform(table: pa.Table, name: str, label: str) -> pa.Table:
    """Rename Chinese headers, check required columns and convert to the contract's types.

    ``label`` stands for the file in messages. Text is stripped and empty text becomes null.
    """
    schema = SCHEMAS[name]
    aliases = {title: column for column, spec in schema.items() for title in spec.titles}
    names: list[str] = []
    for original in table.column_names:
        stripped = original.strip()
        canonical = aliases.get(stripped, stripped.lower() if stripped.isascii() else stripped)
        if canonical in names:
            # A second header for one column is kept under its own name, unless it is the same.
            canonical = stripped
        if canonical in names:
            raise RegistryError(
                f"{label}, header: found {original!r} twice, expected every column once",
                f"{label} 表头：列{original!r}出现两次，每列只能有一次",
            )
        names.append(canonical)
    table = table.rename_columns(names)
    for column, spec in schema.items():
        if spec.required and column not in names:
            titles = " or ".join((column, *spec.titles))
            found = ", ".join(table.column_names[:20]) or "no columns"
            raise RegistryError(
                f"{label}, header: found {found}; expected a column {titles}",
                f"{label} 表头：只有{found}；缺少列{'、'.join((column, *spec.titles))}"
                + ("（任一名称均可）" if spec.titles else ""),
            )
    for i, column in enumerate(names):
        if column in schema:
            values = _convert(table.column(i), schema[column].type, label, column)
            table = table.set_column(i, column, values)
    return table.combine_chunks()


def _convert(
    values: pa.ChunkedArray, target: pa.DataType, label: str, column: str
) -> pa.Array | pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if target == DATE and (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return values.cast(DATE, safe=False)
    if pa.types.is_nested(kind) and not pa.types.is_list(kind):
        raise RegistryError(
            f"{label}, column {column}: found type {kind}, expected {target}",
            f"{label} 列{column}：类型为{kind}，应为{target}",
        )
    if pa.types.is_list(kind):
        values = pc.binary_join(values.cast(pa.list_(pa.string())), ";")
    elif target == NUMBER and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return values.cast(NUMBER)
    elif pa.types.is_floating(kind):
        # Spreadsheets turn ids into floats; whole numbers are meant, fractions are an error.
        whole = values.cast(pa.int64(), safe=False)
        same = pc.equal(whole.cast(kind), values)
        bad = pc.index(same, False).as_py()
        if bad >= 0:
            raise RegistryError(
                f"{label}, row {bad + 1}, column {column}: "
                f"found {values[bad].as_py()!r}, expected text or a whole number",
                f"{label} 第{bad + 1}行 列{column}：为{values[bad].as_py()!r}，应为文本或整数",
            )
        values = whole
    try:
        text = values.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise RegistryError(
            f"{label}, column {column}: found type {kind} that is not text ({error})",
            f"{label} 列{column}：类型{kind}不能作为文本读取（{error}）",
        ) from None
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if target == TEXT:
        return text
    if target == DATE:
        expected = ("a date such as 2026-01-31", "日期，如2026-01-31")
        return _parse_each(text, _parse_date, target, label, column, expected)
    return _parse_each(text, float, target, label, column, ("a number", "数字"))


def _parse_each(
    text: pa.ChunkedArray,
    parse: Callable[[str], object],
    target: pa.DataType,
    label: str,
    column: str,
    expected: tuple[str, str],
) -> pa.Array:
    """Parse each distinct value once and spread the results. ``expected``: English, Chinese."""
    encoded = pc.dictionary_encode(text).combine_chunks()
    parsed: list[object] = []
    for value in encoded.dictionary.to_pylist():
        try:
            parsed.append(parse(value))
        except ValueError:
            row = pc.index(text, pa.scalar(value)).as_py() + 1
            raise RegistryError(
                f"{label}, row {row}, column {column}: found {value!r}, expected {expected[0]}",
                f"{label} 第{row}行 列{column}：为{value!r}，应为{expected[1]}",
            ) from None
    return pa.array(parsed, target).take(encoded.indices)


def _parse_date(value: str) -> dt.date | None:
    if value in _OPEN_ENDED:
        return None
    for pattern in _DATE_PATTERNS:
        match = pattern.fullmatch(value)
        if match:
            year, month, day = (int(part) for part in match.groups())
            return dt.date(year, month, day)
    raise ValueError(value)

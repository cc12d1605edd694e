"""CSV, TSV and NDJSON files: one unit a file, read in blocks of lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from trace_engine.events.raw import InputError, RawBatch, RejectList, raw_text
from trace_engine.events.schema import LABEL, LABELS, match_headers
from trace_engine.readers.formats import SAMPLE, sample_of
from trace_engine.readers.lines import Block, LineReader, guess_encoding, sample_lines
from trace_engine.readers.ndjson import JsonBlocks
from trace_engine.readers.units import RejectSink, Unit

# How databases and spreadsheets write "no value".
NULLS = ["", "NULL", "null", "\\N", "None", "N/A", "n/a", "NaN", "nan"]
_DELIMITERS = ",\t;|"
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # what no header holds


@dataclass
class TextUnit(Unit):
    """One text file."""

    path: str
    size_bytes: int
    encoding: str
    batch_rows: int
    sink: RejectSink
    number: int  # of this unit in its source
    first_time: int | None = None
    last_time: int | None = None
    rows: int | None = None

    def _reader(self, rejects: RejectList, delimiter: str | None, header_lines: int) -> LineReader:
        return LineReader(
            self.path, rejects, self.sink.pseudonyms, encoding=self.encoding, delimiter=delimiter,
            header_lines=header_lines,
        )  # fmt: skip

    def _cut(self, batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> Iterator[RawBatch]:
        for start in range(0, batch.num_rows, self.batch_rows):
            part = batch.slice(start, self.batch_rows)
            numbers = rows[start : start + self.batch_rows]
            yield RawBatch(part, self.path, int(numbers[0]), numbers)


@dataclass(kw_only=True)
class DelimitedUnit(TextUnit):
    """One CSV or TSV file. Every column is read as text; the encoder knows what it means."""

    delimiter: str
    header_lines: int
    columns: list[str]  # a name for each column: canonical, or one that is not read
    wanted: list[str]

    def batches(self) -> Iterator[RawBatch]:
        """Yield the rows; those with too many or too few fields become rejects."""
        rejects = self.sink.open(self.number)
        for block in self._reader(rejects, self.delimiter, self.header_lines).blocks():
            batch, rows = self._parse(block, rejects)
            yield from self._cut(batch, rows)

    def _parse(
        self, block: Block, rejects: RejectList
    ) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
        wrong: list[tuple[int, int, str]] = []

        def skip(row: pa_csv.InvalidRow) -> str:
            wrong.append((row.number - 1, row.actual_columns, row.text))
            return "skip"

        table = pa_csv.read_csv(
            pa.py_buffer(block.data),
            pa_csv.ReadOptions(
                use_threads=False, block_size=len(block.data) + 1, column_names=self.columns
            ),
            pa_csv.ParseOptions(
                delimiter=self.delimiter, invalid_row_handler=skip, ignore_empty_lines=False
            ),
            pa_csv.ConvertOptions(
                column_types={n: LABEL if n in LABELS else pa.string() for n in self.wanted},
                include_columns=self.wanted,
                null_values=NULLS,
                strings_can_be_null=True,
                check_utf8=False,
            ),
        )
        for index, found, text in wrong:
            rejects.add(
                self.path, int(block.rows[index]), "", "wrong_field_count",
                f"line {int(block.lines[index])}: found {found} fields, expected "
                f"{len(self.columns)}", raw_text(text, self.sink.pseudonyms),
            )  # fmt: skip
        rows = np.delete(block.rows, [index for index, _, _ in wrong]) if wrong else block.rows
        if table.num_rows != len(rows):
            raise InputError(
                f"{self.path}: {len(rows)} lines from line {int(block.lines[0])} on were parsed "
                f"as {table.num_rows} rows; expected one row a line"
            )
        batches = table.combine_chunks().to_batches()
        empty = pa.RecordBatch.from_arrays([c.combine_chunks() for c in table.columns], self.wanted)
        return (batches[0] if batches else empty), rows


@dataclass(kw_only=True)
class JsonUnit(TextUnit):
    """One NDJSON file."""

    headers: dict[str, str]  # canonical name -> key, as seen in the first lines

    def batches(self) -> Iterator[RawBatch]:
        """Yield the rows; lines that hold no object become rejects."""
        rejects = self.sink.open(self.number)
        blocks = JsonBlocks(self.path, self.headers, rejects, self.sink.pseudonyms)
        for block in self._reader(rejects, None, 0).blocks():
            batch, rows = blocks.parse(block)
            yield from self._cut(batch, rows)


def text_units(path: str, form: str, batch_rows: int, sink: RejectSink, number: int) -> list[Unit]:
    """Return the unit of a text file; none if it holds only a header.

    Raises :class:`InputError` where it has no header, or required columns are missing.
    """
    sample = sample_of(path)
    encoding = guess_encoding(sample)
    lines = sample_lines(sample, encoding)
    if len(sample) == SAMPLE and len(lines) == 1:
        raise InputError(
            f"{path}: the first line is longer than {SAMPLE} bytes; expected a header or an object",
            f"{path}：首行超过 {SAMPLE} 字节，应为表头或 JSON 对象",
        )
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: the file holds only blanks", f"{path}：文件只有空白")
    size = Path(path).stat().st_size
    if form == "ndjson":
        headers = match_headers(_keys(path, lines, len(sample) < SAMPLE), path).columns
        return [JsonUnit(path, size, encoding, batch_rows, sink, number, headers=headers)]
    first = next(i for i, line in enumerate(lines) if line.strip())
    delimiter = "\t" if form == "tsv" else ""
    if lines[first].lower().startswith("sep=") and len(lines[first].strip()) == 5:
        delimiter = lines[first].strip()[4]
        first += 1
    header = lines[first] if first < len(lines) else ""
    if _CONTROL.search(header):
        raise InputError(
            f"{path}: the first line holds control characters: binary data; expected a header of "
            "text",
            f"{path}：首行含控制字符，疑为二进制文件，应为文本表头",
        )
    delimiter = delimiter or max(_DELIMITERS, key=header.count)
    names = next(csv.reader([header], delimiter=delimiter), [])
    match = match_headers(names, path)
    if len(sample) < SAMPLE and not any(line.strip() for line in lines[first + 1 :]):
        return []
    canonical = {header_name: name for name, header_name in match.columns.items()}
    columns = [canonical.get(name, f"#{i}") for i, name in enumerate(names)]
    return [
        DelimitedUnit(
            path, size, encoding, batch_rows, sink, number, delimiter=delimiter,
            header_lines=first + 1, columns=columns, wanted=list(match.columns),
        )
    ]  # fmt: skip


def _keys(path: str, lines: list[str], whole: bool) -> list[str]:
    """Return the keys of the objects in the first lines, in order of appearance."""
    keys: dict[str, None] = {}
    for line in lines if whole else lines[:-1]:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(record, dict):
            keys.update(dict.fromkeys(record))
    if not keys:
        raise InputError(
            f"{path}: no JSON object in the first lines; expected one object a line",
            f"{path}：前几行中没有 JSON 对象，应为每行一个 JSON 对象",
        )
    return list(keys)

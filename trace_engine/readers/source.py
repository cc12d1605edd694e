"""``open_events``: from what the user names to units that can be read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from trace_engine.events.privacy import Pseudonyms
from trace_engine.events.raw import InputError
from trace_engine.readers.formats import FORMATS, is_event_file, recognise
from trace_engine.readers.parquet import parquet_units
from trace_engine.readers.units import BATCH_ROWS, EventSource, RejectSink, Unit


def open_events(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    format: str = "auto",  # noqa: A002 - the name of the command-line option
    batch_rows: int = BATCH_ROWS,
    key: bytes | None = None,
) -> EventSource:
    """Open files, folders (with all below them) and patterns for reading.

    ``format``: ``auto`` recognises each file by its content, then by its name; else ``parquet``,
    ``csv``, ``tsv`` or ``ndjson`` for all. Batches have at most ``batch_rows`` rows. ``key`` hashes
    personal numbers in rejected rows (see ``privacy``).

    Raises :class:`InputError`, one line, for anything that cannot be read as events.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    sink = RejectSink(Pseudonyms(key))
    units: list[Unit] = []
    files = find_files(os.fspath(name) for name in inputs)
    for path in files:
        units.extend(_units_of(path, format, batch_rows, sink, len(units)))
    if not units:
        shown = files[0] if len(files) == 1 else f"{len(files)} files"
        raise InputError(f"{shown}: no rows, only headers", f"{shown}：没有数据行，只有表头")
    return EventSource(units, files, sink)


def _units_of(
    path: str, form: str, batch_rows: int, sink: RejectSink, first_unit: int
) -> list[Unit]:
    try:
        if not Path(path).is_file() and Path(path).exists():
            # Input is read more than once (kind, rows, fingerprint); a pipe would wait for ever.
            raise InputError(
                f"{path}: is a pipe or a device; expected a file", f"{path}：是管道或设备，应为文件"
            )
        if Path(path).stat().st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes)", f"{path}：文件为空（0 字节）")
        found = recognise(path) if form == "auto" else form
        if found == "parquet":
            return parquet_units(path, batch_rows)
        from trace_engine.readers.text import text_units

        return text_units(path, found, batch_rows, sink, first_unit)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be opened ({error.strerror or error})",
            f"{path}：无法打开（{error.strerror or error}）",
        ) from error


def find_files(names: Iterable[str]) -> list[str]:
    """Return the files that ``names`` stand for, sorted, each once.

    A folder stands for all event files below it (by extension, hidden ones left out).
    """
    found: dict[str, str] = {}
    for name in names:
        for path in _expand(name):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise InputError("no input named", "未指定输入")
    return sorted(found.values())


def _expand(name: str) -> list[str]:
    if Path(name).is_dir():
        files = _files_below(name)
        if not files:
            raise InputError(
                f"{name}: no event files in this folder; expected .parquet, .csv, .tsv, .ndjson or "
                ".jsonl, perhaps with .gz or .zst",
                f"{name}：文件夹内没有事件文件（.parquet、.csv、.tsv、.ndjson、.jsonl，可带 .gz 或 .zst）",
            )
        return files
    if Path(name).exists():
        return [name]
    if not glob.has_magic(name):
        raise InputError(f"{name}: no such file or folder", f"{name}：找不到文件或文件夹")
    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - an absolute pattern is fine here
    files = [path for path in matches if Path(path).is_file()]
    if not files:
        for folder in (path for path in matches if Path(path).is_dir()):
            files.extend(_files_below(folder))
    if not files:
        raise InputError(f"{name}: no file matches this pattern", f"{name}：没有文件与此模式相符")
    return files


def _files_below(folder: str) -> list[str]:
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        files += [str(Path(root) / name) for name in sorted(names) if is_event_file(name)]
    return files

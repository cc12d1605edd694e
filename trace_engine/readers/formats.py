"""What a file is: by its first bytes, and where these say nothing by its name."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from trace_engine.events.raw import InputError

FORMATS = ("auto", "parquet", "csv", "tsv", "ndjson")
EXTENSIONS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv", ".txt": "csv",
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHER_KINDS = {
    b"PK\x03\x04": "a ZIP archive or spreadsheet",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"ARROW1": "an Arrow IPC file",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"<?xml": "an XML file",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"%PDF": "a PDF file",
}
SAMPLE = 1 << 16


def is_event_file(name: str) -> bool:
    """Return whether a file found in a folder is taken for events: by extension, not hidden."""
    if name.startswith((".", "_")):
        return False
    path = Path(name.lower())
    if path.suffix in COMPRESSIONS:
        path = Path(path.stem)
    return path.suffix in EXTENSIONS


def compression_of(path: str) -> str | None:
    """Return ``gzip``, ``zstd`` or None by the first bytes of the file."""
    with Path(path).open("rb") as file:
        head = file.read(4)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def open_bytes(path: str) -> BinaryIO:
    """Open a file for reading, decompressed."""
    compression = compression_of(path)
    stream = pa.input_stream(path, compression=compression, buffer_size=1 << 20)
    return cast("BinaryIO", stream)


def sample_of(path: str) -> bytes:
    """Return the first decompressed bytes of a file, at most ``SAMPLE``."""
    try:
        with open_bytes(path) as stream:
            return bytes(stream.read(SAMPLE))
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: cannot be decompressed ({error})", f"{path}：无法解压（{error}）"
        ) from error


def recognise(path: str) -> str:
    """Return the format of a file; raises :class:`InputError` for what is certainly no event file."""
    head = sample_of(path)
    if head.startswith(b"PAR1"):
        if compression_of(path):
            raise InputError(
                f"{path}: Parquet inside another compression; decompress it first",
                f"{path}：Parquet 文件被再次压缩，请先解压",
            )
        return "parquet"
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise InputError(
                f"{path}: this is {kind}; expected Parquet, CSV, TSV or NDJSON",
                f"{path}：文件不是 Parquet、CSV、TSV 或 NDJSON",
            )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return "ndjson"
    if text.startswith(b"["):
        raise InputError(
            f"{path}: a JSON array; expected one JSON object a line (NDJSON)",
            f"{path}：这是 JSON 数组，应为每行一个 JSON 对象（NDJSON）",
        )
    name = Path(path.lower())
    if name.suffix in COMPRESSIONS:
        name = Path(name.stem)
    by_name = EXTENSIONS.get(name.suffix)
    if by_name == "parquet":
        raise InputError(
            f"{path}: named as Parquet, but it does not begin with PAR1 (found {head[:8]!r})",
            f"{path}：扩展名为 Parquet，但内容不是",
        )
    if by_name in ("csv", "tsv", None):
        line = text.split(b"\n", 1)[0]
        return "tsv" if line.count(b"\t") > line.count(b",") else "csv"
    return by_name

"""The same few events written in every form a reader knows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trace_engine.events.batch import EventBatch, Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.readers import EventSource, open_events

HEADERS = {
    "event_time": "单据日期", "event_type": "单据类型", "code": "追溯码", "actor_id": "操作企业",
    "to_id": "收货企业", "unit_price": "单价", "batch_no": "产品批号",
}  # fmt: skip
Row = dict[str, str | None]


def sample_rows(count: int) -> list[Row]:
    """Return ``count`` good rows with Chinese names and some empty values."""
    return [
        {
            "event_time": f"2024-05-{1 + i % 28:02d} 08:{i % 60:02d}:00",
            "event_type": ("201", "采购入库")[i % 2],
            "code": f"8021761{i:09d}1003",
            "actor_id": f"企业{i % 7}",
            "to_id": f"药店{i % 5}" if i % 3 else None,
            "unit_price": f"{i % 90}.{i % 100:02d}",
            "batch_no": f"B{i % 4}",
        }
        for i in range(count)
    ]


def csv_bytes(
    rows: list[Row], encoding: str = "utf-8", delimiter: str = ",", **options: str
) -> bytes:
    """Return rows as CSV with Chinese headers."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=options.get("end", "\n"))
    writer.writerow(HEADERS.values())
    writer.writerows([row[name] or "" for name in HEADERS] for row in rows)
    return text.getvalue().encode(encoding)


def json_bytes(rows: list[Row]) -> bytes:
    """Return rows as NDJSON with canonical names, absent values left out."""
    return b"".join(
        json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False).encode()
        + b"\n"
        for row in rows
    )


def write_parquet(path: Path, rows: list[Row], **options: object) -> None:
    """Write rows as Parquet with text columns."""
    schema = pa.schema([(name, pa.string()) for name in HEADERS])
    pq.write_table(pa.Table.from_pylist(rows, schema), path, **options)


def write_gzip(path: Path, data: bytes) -> None:
    """Write ``data`` compressed."""
    path.write_bytes(gzip.compress(data))


def write_zstd(path: Path, data: bytes) -> None:
    """Write ``data`` compressed."""
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        out.write(data)


def encoded(source: EventSource) -> tuple[EventBatch, list[dict[str, object]]]:
    """Return all events of a source, and the rejects of its readers and the encoder."""
    encoder = Encoder(Vocabulary(), key=b"k", region_index=lambda _: -1)
    parts = [encoder.encode(raw) for raw in source.batches()]
    rejects = [r for part in parts for r in part.rejects.to_pylist()] + source.rejects.to_pylist()
    rejects.sort(key=lambda r: r["row"])
    batches = [part.batch for part in parts]
    return EventBatch.concat(batches) if batches else EventBatch.empty(), rejects


def read(path: Path | list[Path], **options: object) -> tuple[EventBatch, list[dict[str, object]]]:
    """Open and encode."""
    return encoded(open_events(path, **options))  # type: ignore[arg-type]

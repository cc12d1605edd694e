"""Reading an output folder back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trace_engine.cli.bilingual import say
from trace_engine.cli.errors import UserError, one_line

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(folder: Path, name: str) -> pa.Table:
    """Return a Parquet file of an output folder; :class:`UserError` if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / name
    if not path.is_file():
        raise UserError(
            say(
                f"{folder}：不是 trace-engine 的结果文件夹（没有 {name}）",
                f"{folder}: not an output folder of trace-engine (no {name})",
            )
        )
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        detail = one_line(str(error))
        text = say(f"{path}：无法读取：{detail}", f"{path}: unreadable: {detail}")
        raise UserError(text) from error

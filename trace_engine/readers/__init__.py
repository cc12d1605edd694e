"""Ways in: files to batches of raw rows. The encoder (``events.encode``) makes events of them."""

from __future__ import annotations

from trace_engine.events.raw import InputError, RawBatch
from trace_engine.readers.digest import file_digest
from trace_engine.readers.source import open_events
from trace_engine.readers.units import BATCH_ROWS, EventSource, Unit

__all__ = [
    "BATCH_ROWS",
    "EventSource",
    "InputError",
    "RawBatch",
    "Unit",
    "file_digest",
    "open_events",
]

"""Findings and rejects as messages: a key, a value in JSON, headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

SOURCE_HEADER = "trace-engine-source"  # topic/partition/offset of the message that raised a finding
MOST_BYTES = 900_000  # of a value: brokers refuse more than 1 MB unless told otherwise

_LISTS = ("event_ids", "codes")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to be written."""

    key: bytes
    value: bytes
    source: str


def finding_messages(
    findings: pa.Table, late: list[bool], source: str, most_bytes: int = MOST_BYTES
) -> Iterator[Outgoing]:
    """Yield findings (schema ``FINDINGS``) with ``late``, keyed by ``finding_id``.

    A value larger than ``most_bytes`` loses the ends of its lists and says so: ``truncated`` names
    them. ``code_count`` still counts all codes.
    """
    for row, is_late in zip(findings.to_pylist(), late, strict=True):
        row["late"] = bool(is_late)
        value = msgspec.json.encode(row)
        if len(value) > most_bytes:
            value = _shortened(row, most_bytes)
        yield Outgoing(row["finding_id"].encode(), value, source)


def reject_message(reject: dict[str, Any]) -> Outgoing:
    """Return a reject, keyed by where its message stands."""
    place = f"{reject['topic']}/{reject['partition']}/{reject['offset']}"
    return Outgoing(place.encode(), msgspec.json.encode(reject), place)


def progress_message(said: dict[str, Any]) -> Outgoing:
    """Return how far a partition is, keyed by the partition so that a compacted topic keeps one."""
    place = f"{said['topic']}/{said['partition']}"
    return Outgoing(place.encode(), msgspec.json.encode(said), f"{place}/{said['offset']}")


def _shortened(row: dict[str, Any], most_bytes: int) -> bytes:
    cut: list[str] = []
    row = {**row, "truncated": cut}
    while True:
        longest = max(_LISTS, key=lambda name: len(row[name] or ()))
        if not row[longest]:
            evidence = "evidence"  # nothing else grows with the number of events
            cut.append(evidence)
            return msgspec.json.encode({**row, evidence: None})
        if longest not in cut:
            cut.append(longest)
        row[longest] = row[longest][: len(row[longest]) // 2]
        value = msgspec.json.encode(row)
        if len(value) <= most_bytes:
            return value

"""Settings of a stream, and the configuration of the clients that follows from them.

What exactly once rests on is set here and cannot be overridden. Values of properties may be
passwords: they are handed to librdkafka and shown nowhere, not even in errors.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trace_engine.cluster.kafka.errors import StreamError

FORMATS = ("auto", "json", "ndjson", "arrow")

# Set by us: another value would lose or double findings.
_OURS = frozenset(
    {
        "acks", "auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store",
        "enable.idempotence", "enable.partition.eof", "group.id", "group.protocol",
        "isolation.level", "partition.assignment.strategy", "request.required.acks",
        "transactional.id",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a member of the group is told.

    Sizes are in bytes, times in seconds. ``properties`` are of librdkafka; a name that begins with
    ``consumer.`` or ``producer.`` is for that client only.
    """

    brokers: str
    topic: str
    findings_topic: str
    rejects_topic: str
    state: Path
    progress_topic: str | None = None  # how far findings are complete, with each checkpoint
    group: str = "trace-engine"
    format: str = "auto"
    lateness_days: int = 2
    future_days: int | None = 2  # events dated later than that do not close days
    close_after_days: int = 180  # codes sold or destroyed leave memory after their last event
    registry: Path | None = None
    policy: str | None = None
    checkpoint_seconds: float = 30.0
    checkpoint_findings: int = 20_000  # findings and rejects that wait at most for a checkpoint
    progress_seconds: float = 10.0
    waiting_bytes: int = 64 << 20  # read and not yet judged, of one partition
    threads: int = 1  # of each partition's engine
    rebuild: bool = False
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        names = [self.topic, *self.outputs()]
        if len(set(names)) < len(names):
            raise StreamError(
                f"one topic for two purposes among {', '.join(names)}: give each its own",
                f"{'、'.join(names)} 中有主题重复使用，请分别指定",
            )
        if self.format not in FORMATS:
            raise StreamError(f"format {self.format!r}: expected one of {', '.join(FORMATS)}")
        for name in self.properties:
            plain = name.removeprefix("consumer.").removeprefix("producer.")
            if plain in _OURS or plain == "bootstrap.servers":
                raise StreamError(
                    f"property {name}: is set by the stream and cannot be given",
                    f"属性 {name} 由本程序设定，不可另行指定",
                )

    def outputs(self) -> list[str]:
        """Return the topics that are written to."""
        given = (self.findings_topic, self.rejects_topic, self.progress_topic)
        return [name for name in given if name]

    def folder(self, partition: int) -> Path:
        """Return the folder of one partition's state."""
        return self.state / f"{self.topic}-{partition}"

    def transactional_id(self, partition: int) -> str:
        """Return the id by which the broker fences off the partition's earlier writers."""
        return f"{self.group}.{self.topic}-{partition}"

    def consumer(self) -> dict[str, Any]:
        """Return the configuration of the consumer."""
        return {
            "max.poll.interval.ms": 600_000,  # a checkpoint of many GB on revocation takes minutes
            "queued.max.messages.kbytes": 16_384,  # of each partition, read ahead by the client
            "fetch.wait.max.ms": 100,
            **self._given("consumer"),
            "bootstrap.servers": self.brokers,
            "group.id": self.group,
            # Partitions that stay keep their state in memory while others move.
            "partition.assignment.strategy": "cooperative-sticky",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Events deleted before they were read must stop the stream, not be skipped.
            "auto.offset.reset": "error",
        }

    def producer(self, partition: int) -> dict[str, Any]:
        """Return the configuration of one partition's transactional producer."""
        return {
            "linger.ms": 5,
            "compression.type": "lz4",
            "transaction.timeout.ms": 60_000,
            **self._given("producer"),
            "bootstrap.servers": self.brokers,
            "transactional.id": self.transactional_id(partition),
        }

    def admin(self) -> dict[str, Any]:
        """Return the configuration of a client that only looks at topics."""
        return {**self._given(""), "bootstrap.servers": self.brokers}

    def _given(self, client: str) -> dict[str, str]:
        chosen = {}
        for name, value in self.properties.items():
            owner, _, rest = name.partition(".")
            if owner in ("consumer", "producer"):
                if owner == client:
                    chosen[rest] = value
            else:
                chosen.setdefault(name, value)
        return chosen

    def masked(self, text: str) -> str:
        """Return ``text`` without any value of a property: it may be a password."""
        for value in sorted(self.properties.values(), key=len, reverse=True):
            if len(value) > 3:
                text = text.replace(value, "***")
        return text


def parse_properties(given: Iterable[str], file: Path | None = None) -> dict[str, str]:
    """Return properties ``name=value`` of ``file`` (a line each, ``#`` comments), then of ``given``.

    Raises :class:`StreamError` without ever repeating a value.
    """
    found: dict[str, str] = {}
    if file is not None:
        if file.stat().st_mode & (stat.S_IRWXO):
            raise StreamError(
                f"{file}: may be read by every user of this machine; run chmod o= on it first",
                f"{file}：本机所有用户可读，请先执行 chmod o=",
            )
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                name, value = _pair(line, f"{file}, line {number}")
                found[name] = value
    for text in given:
        name, value = _pair(text, "--property")
        found[name] = value
    return found


def _pair(text: str, where: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise StreamError(f"{where}: expected name=value", f"{where}：应为 name=value")
    return name.strip(), value.strip()

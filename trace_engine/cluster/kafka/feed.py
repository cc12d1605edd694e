"""Messages into a shard, and what it found out of it. Does no input and no output."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from trace_engine.cluster.kafka.cuts import cuts
from trace_engine.cluster.kafka.messages import ADVANCE, Events, Incoming, MessageDecoder
from trace_engine.cluster.kafka.output import Outgoing, finding_messages, reject_message
from trace_engine.cluster.kafka.settings import StreamSettings
from trace_engine.cluster.shard import Closed, Shard
from trace_engine.events.encode import Encoded
from trace_engine.events.findings import REJECTS

_EPOCH = dt.date(1970, 1, 1)


@dataclass(slots=True)
class Tally:
    """What was taken since this member has the partition."""

    messages: int = 0
    empty: int = 0  # tombstones and messages without content
    commands: int = 0
    events: int = 0
    late: int = 0
    findings: int = 0
    rejects: int = 0


class Feed:
    """Takes the messages of one partition in order; ``pending`` gathers (topic, message) to write.

    Messages before ``publish_from`` are taken again: what they bring was published before.
    """

    def __init__(
        self, settings: StreamSettings, partition: int, shard: Shard, publish_from: int
    ) -> None:
        self.shard = shard
        self.publish_from = publish_from
        self.pending: list[tuple[str, Outgoing]] = []
        self.tally = Tally()
        self._settings = settings
        self._source = f"{settings.topic}/{partition}"
        self._partition = partition
        # Numbers of events in rejects of the engine are offsets of their messages.
        shard.engine.files = [self._source]
        self._decoder = MessageDecoder(
            settings.topic, partition, shard.engine.encoder, settings.format
        )

    def take(self, messages: Sequence[Incoming]) -> None:
        """Take messages in order of their offsets."""
        self.tally.messages += len(messages)
        for kind, some in groupby(messages, _kind):
            part = list(some)
            if kind == "empty":
                self.tally.empty += len(part)
            elif kind == "command":
                for message in part:
                    self._command(message)
            else:
                self._events(part)

    def _events(self, messages: list[Incoming]) -> None:
        decoded = self._decoder.decode(messages)
        for reject in decoded.rejects:
            self._reject(reject["offset"], reject_message(reject))
        counts = self.shard.engine.counts
        counts["rows"] += len(decoded.rejects)
        counts["rejects"] += len(decoded.rejects)
        received = np.array([message.time for message in messages], np.int64)
        for events in decoded.events:
            self._hand_over(events, messages, received)

    def _hand_over(self, events: Events, messages: list[Incoming], received: np.ndarray) -> None:
        shard = self.shard
        start = 0
        batch = events.batch
        for stop in cuts(batch.time, events.message, received, shard.latest_day, shard.future_days):
            last = int(events.message[stop - 1])
            piece = batch.slice(start, stop)
            if piece.origin is not None:
                piece.origin = piece.origin - shard.rows  # which the shard adds again
            self.tally.events += len(piece)
            self.tally.late += shard.late_rows(piece)
            closed = shard.take(
                Encoded(piece, REJECTS.empty_table(), len(piece)), int(received[last])
            )
            self._closed(closed, messages[last].offset)
            start = stop

    def _command(self, message: Incoming) -> None:
        self.tally.commands += 1
        try:
            if message.command != ADVANCE:
                raise ValueError(f"unknown command {message.command!r}, expected {ADVANCE!r}")
            day = dt.date.fromisoformat(message.value.decode().strip())
        except ValueError as error:
            reject = {
                "topic": self._settings.topic, "partition": self._partition,
                "offset": message.offset, "row": None, "column": "", "reason": "bad_command",
                "detail": " ".join(str(error).split())[:200], "raw": None,
            }  # fmt: skip
            self._reject(message.offset, reject_message(reject))
            return
        self._closed(self.shard.advance((day - _EPOCH).days), message.offset)

    def _closed(self, closed: Closed | None, offset: int) -> None:
        """Gather what closing days brought; ``offset`` is that of the message that closed them."""
        engine = self.shard.engine
        if closed is not None and offset >= self.publish_from:
            source = f"{self._source}/{offset}"
            for message in finding_messages(closed.findings, closed.late, source):
                self.pending.append((self._settings.findings_topic, message))
            self.tally.findings += closed.findings.num_rows
        for reject in engine.reject_table.to_pylist():
            found = {
                "topic": self._settings.topic, "partition": self._partition,
                "offset": reject["row"], "row": None, "column": reject["column"],
                "reason": reject["reason"], "detail": reject["detail"], "raw": reject["raw"],
            }  # fmt: skip
            self._reject(offset, reject_message(found))
        engine.forget_output()

    def _reject(self, offset: int, message: Outgoing) -> None:
        if offset >= self.publish_from:
            self.pending.append((self._settings.rejects_topic, message))
            self.tally.rejects += 1


def _kind(message: Incoming) -> str:
    if message.command:
        return "command"
    return "events" if message.value.strip() else "empty"

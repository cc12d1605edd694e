"""Writes findings and the group's offset in one transaction of Kafka."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trace_engine.cluster.kafka.errors import LostPartition, StreamError
from trace_engine.cluster.kafka.output import SOURCE_HEADER, Outgoing

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

_logger = logging.getLogger("trace_engine.stream")

CALL_SECONDS = 5.0  # one call into the client; it goes on where it was when it is repeated
SETTLE_SECONDS = 120.0  # until a transaction counts as unsettled
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
_HOPELESS = frozenset(
    {
        "CLUSTER_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "INVALID_TRANSACTION_TIMEOUT",
        "MSG_SIZE_TOO_LARGE", "SASL_AUTHENTICATION_FAILED", "TOPIC_AUTHORIZATION_FAILED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "UNKNOWN_TOPIC_OR_PART", "_AUTHENTICATION",
    }
)  # fmt: skip


class Unsettled(Exception):  # noqa: N818 - not known to be a failure
    """Nobody here knows whether the transaction was committed: only the broker can say."""


class Fenced(Unsettled):
    """Another writer with the same transactional id has begun."""


class Publisher:
    """The transactional producer of one partition. Used by one thread.

    ``group`` returns the group's metadata as the consumer has it: by it the broker refuses a member
    that lost its partitions. ``lost`` says whether the partition is still ours; asked before every
    step.
    """

    def __init__(
        self,
        config: dict[str, Any],
        group: Callable[[], Any],
        lost: Callable[[], bool],
        masked: Callable[[str], str],
    ) -> None:
        self._config = config
        self._group = group
        self._lost = lost
        self._masked = masked
        self._producer: Producer | None = None

    def open(self) -> None:
        """Begin as the only writer of the partition: earlier ones are fenced, theirs is settled.

        Waits for the broker as long as the partition is ours.
        """
        from confluent_kafka import KafkaException, Producer

        self.close()
        try:
            self._producer = Producer(self._config, logger=_logger)
        except KafkaException as error:
            raise StreamError(self._masked(f"producer: {error.args[0].str()}")) from None
        self._patiently(self._producer.init_transactions, "begin as a writer", float("inf"))

    def close(self) -> None:
        """Let the producer go; what it has not committed is never seen."""
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None

    def commit(
        self, outgoing: Sequence[tuple[str, Outgoing]], topic: str, partition: int, offset: int
    ) -> None:
        """Write messages (topic, message) and commit ``offset``: all of it or nothing.

        Raises :class:`Unsettled` if the outcome is not known, :class:`LostPartition`.
        """
        from confluent_kafka import KafkaException

        pause = FIRST_PAUSE
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                self._once(outgoing, topic, partition, offset)
            except KafkaException as error:
                why: KafkaError = error.args[0]
                self._refuse_hopeless(why)
                if not why.txn_requires_abort() or time.monotonic() > end:
                    raise _unsettled(why) from error
                _logger.warning(
                    "transaction aborted, trying again",
                    extra={"partition": partition, "problem": self._masked(why.str())},
                )
                self._abort()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _once(
        self, outgoing: Sequence[tuple[str, Outgoing]], topic: str, partition: int, offset: int
    ) -> None:
        from confluent_kafka import TopicPartition

        producer = self._open_producer()
        producer.begin_transaction()
        for to, message in outgoing:
            headers: dict[str, str | bytes | None] = {SOURCE_HEADER: message.source.encode()}
            while True:
                try:
                    producer.produce(to, message.value, message.key, headers=headers)
                    break
                except BufferError:  # the client's queue is full
                    self._ask()
                    producer.poll(0.5)
            producer.poll(0)
        position = [TopicPartition(topic, partition, offset)]
        self._patiently(
            lambda seconds: producer.send_offsets_to_transaction(position, self._group(), seconds),
            "add the offset",
        )
        self._patiently(producer.commit_transaction, "commit")

    def _abort(self) -> None:
        producer = self._open_producer()
        self._patiently(producer.abort_transaction, "abort")

    def _open_producer(self) -> Producer:
        if self._producer is None:
            raise Unsettled("the producer is closed")
        return self._producer

    def _patiently(
        self, call: Callable[[float], Any], what: str, seconds: float = SETTLE_SECONDS
    ) -> None:
        """Call until it is done: what may be repeated resumes where it was.

        Raises :class:`KafkaException` for errors that end the transaction, :class:`Unsettled`.
        """
        from confluent_kafka import KafkaException

        end = time.monotonic() + seconds
        told = 0.0
        while True:
            self._ask()
            try:
                call(CALL_SECONDS)
            except KafkaException as error:
                why: KafkaError = error.args[0]
                if why.txn_requires_abort():
                    raise
                self._refuse_hopeless(why)
                if why.fatal() or not why.retriable() or time.monotonic() > end:
                    raise _unsettled(why) from error
                if time.monotonic() - told > 30:
                    _logger.warning(
                        "waiting for the broker to %s",
                        what,
                        extra={"problem": self._masked(why.str())},
                    )
                    told = time.monotonic()
                time.sleep(FIRST_PAUSE)
            else:
                return

    def _refuse_hopeless(self, why: KafkaError) -> None:
        """Raise :class:`StreamError` for what no repetition will mend."""
        if why.name() in _HOPELESS:
            raise StreamError(
                self._masked(f"the broker refuses to write: {why.name()}: {why.str()}")
            )

    def _ask(self) -> None:
        if self._lost():
            raise LostPartition


def _unsettled(why: KafkaError) -> Unsettled:
    from confluent_kafka import KafkaError

    fenced = {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
    return (Fenced if why.code() in fenced else Unsettled)(why.str())

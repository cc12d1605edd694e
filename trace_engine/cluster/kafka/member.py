"""A member of the group: one consumer, a worker for each partition it owns.

The member's thread reads, answers rebalances and looks after the workers; it never judges, so the
group hears from it however long a day takes. A partition whose worker is behind is paused: what is
read ahead stays bounded, and the broker keeps the rest.

Only this thread calls the consumer: a call from another one would wait until it finds the reading
thread outside of its own call, which may take long.

Rebalancing is cooperative: only partitions that move are saved, released and loaded elsewhere; the
others keep their state in memory and go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trace_engine.cluster.kafka.errors import StreamError
from trace_engine.cluster.kafka.messages import Incoming, form_of
from trace_engine.cluster.kafka.partition import PartitionWorker, Tools
from trace_engine.cluster.kafka.settings import StreamSettings
from trace_engine.cluster.shard import Shard
from trace_engine.core.archive import Archive
from trace_engine.core.eventlog import EventLog
from trace_engine.engine import Engine
from trace_engine.events.privacy import KEY_VARIABLE
from trace_engine.policy import Policy
from trace_engine.registry import Registry

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

_logger = logging.getLogger("trace_engine.stream")

READ_AT_ONCE = 5_000  # messages
READ_SECONDS = 0.1
ASK_SECONDS = 5.0
FIRST_CONTACT_SECONDS = 15.0
REVOKE_SHARE = 0.8  # of max.poll.interval.ms that a revocation may take
STOP_SECONDS = 600.0


class StreamMember:
    """Runs one member of the group until it is told to stop.

    ``key`` hashes personal numbers; the same for all members and runs.
    """

    def __init__(
        self, settings: StreamSettings, registry: Registry, policy: Policy, key: bytes
    ) -> None:
        self.settings = settings
        self._registry = registry
        self._policy = policy
        self._key = key
        self._workers: dict[int, PartitionWorker] = {}
        self._stopping = threading.Event()
        self._hurried = threading.Event()
        self._failure: BaseException | None = None
        self._ready: deque[tuple[PartitionWorker, int | None]] = deque()
        self._asked: deque[PartitionWorker] = deque()  # wait for the group's offset
        self._group: Any = None
        self._consumer: Consumer
        self._tools: Tools
        self._revoke_seconds = REVOKE_SHARE * 600
        self._told_at = 0.0

    def stop(self) -> None:
        """Ask for an orderly end: a checkpoint of every partition. Safe in a signal handler.

        Asked again, the member ends without one: what was taken since the last is taken again.
        """
        if self._stopping.is_set():
            self._hurried.set()
        self._stopping.set()

    def run(self) -> None:
        """Read until :meth:`stop`. Raises :class:`StreamError` or what a worker failed with."""
        from confluent_kafka import KafkaException

        self._consumer = self._connect()
        self._tools = Tools(
            self.settings,
            lambda: self._group,
            self._asked.append,
            self._make_shard,
            {
                "registry": str(self.settings.registry) if self.settings.registry else None,
                "policy": self.settings.policy,
            },
            self._key,
            lambda worker, start: self._ready.append((worker, start)),
            self._fail,
        )
        try:
            self._check_topics()
            self._consumer.subscribe(
                [self.settings.topic],
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._dropped,
            )
            while not self._stopping.is_set():
                self._step()
        except KafkaException as error:
            self._fail(None, StreamError(self.settings.masked(str(error.args[0]))))
        finally:
            self._end()
        if self._failure is not None:
            raise self._failure

    # ---- reading -------------------------------------------------------------------------------

    def _step(self) -> None:
        messages = self._consumer.consume(READ_AT_ONCE, READ_SECONDS)
        by_partition: dict[int, list[Incoming]] = {}
        for message in messages:
            if message.error() is not None:
                self._bad_message(message)
                continue
            partition = message.partition()
            if partition is not None:
                by_partition.setdefault(partition, []).append(_incoming(message))
        for partition, some in by_partition.items():
            worker = self._workers.get(partition)
            if worker is None or not worker.accepting:
                continue  # read before the consumer stood at the right offset; read again later
            worker.inbox.put(some)
            if worker.inbox.full:
                self._pause(worker)
        self._group = self._consumer.consumer_group_metadata()
        for _ in range(len(self._asked)):
            self._say_offset(self._asked.popleft())
        while self._ready:
            worker, start = self._ready.popleft()
            if self._workers.get(worker.partition) is worker and not self._begin(worker, start):
                self._ready.append((worker, start))
                break
        for worker in self._workers.values():
            if worker.accepting and worker.paused and not worker.inbox.full:
                self._resume(worker)
        if time.monotonic() - self._told_at >= self.settings.progress_seconds:
            self._tell()

    def _say_offset(self, worker: PartitionWorker) -> None:
        """Tell a worker what the group has committed; where nobody answers, it is asked again."""
        from confluent_kafka import KafkaException, TopicPartition

        if self._workers.get(worker.partition) is not worker:
            return
        asked = [TopicPartition(self.settings.topic, worker.partition)]
        try:
            found = self._consumer.committed(asked, timeout=ASK_SECONDS)[0]
            if found.error is None:
                worker.answer(found.offset if found.offset >= 0 else None)
                return
            problem = str(found.error)
        except KafkaException as error:
            problem = error.args[0].str()
        _logger.warning(
            "waiting for the broker to say the group's offset",
            extra={"partition": worker.partition, "problem": self.settings.masked(problem)},
        )
        self._asked.append(worker)

    def _begin(self, worker: PartitionWorker, start: int | None) -> bool:
        """Let the consumer read from where the worker's state ends; False: not possible yet."""
        from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

        offset = OFFSET_BEGINNING if start is None else start
        try:
            self._consumer.seek(TopicPartition(self.settings.topic, worker.partition, offset))
        except KafkaException:
            return False  # the client has not taken the assignment in yet
        worker.inbox.clear()
        worker.accepting = True
        self._resume(worker)
        _logger.info(
            "partition running", extra={"partition": worker.partition, "offset": start or 0}
        )
        return True

    def _bad_message(self, message: Message) -> None:
        from confluent_kafka import KafkaError

        error = message.error()
        if error is None:
            return
        code = error.code()
        place = f"{self.settings.topic}-{message.partition()}"
        if code == KafkaError._AUTO_OFFSET_RESET:
            self._fail(
                None,
                StreamError(
                    f"{place}: events were deleted by the topic's retention before they were read "
                    f"({error.str()}); keep them longer, or set the group's offset by hand",
                    f"{place}：主题的保留期已删除尚未读取的事件；请延长保留期，或手工设置消费组位点",
                ),
            )
        elif error.fatal() or code in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
        ):
            self._fail(None, StreamError(self.settings.masked(f"{place}: {error.str()}")))
        else:
            _logger.warning(
                "the broker reports a problem",
                extra={"problem": self.settings.masked(error.str())},
            )

    def _pause(self, worker: PartitionWorker) -> None:
        from confluent_kafka import TopicPartition

        worker.paused = True
        self._consumer.pause([TopicPartition(self.settings.topic, worker.partition)])

    def _resume(self, worker: PartitionWorker) -> None:
        from confluent_kafka import TopicPartition

        worker.paused = False
        self._consumer.resume([TopicPartition(self.settings.topic, worker.partition)])

    # ---- rebalances (called from within ``consume`` and ``close``) -----------------------------

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        _logger.info("partitions assigned", extra={"partitions": _numbers(partitions)})
        self._group = consumer.consumer_group_metadata()
        # Where to read from is known when the state is loaded; until then nothing is read.
        stand_by = [TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions]
        consumer.incremental_assign(stand_by)
        if stand_by:
            consumer.pause(stand_by)
        for partition in partitions:
            worker = PartitionWorker(partition.partition, self._tools)
            self._workers[partition.partition] = worker
            worker.start()

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        _logger.info("partitions revoked", extra={"partitions": _numbers(partitions)})
        self._finish(_numbers(partitions), self._revoke_seconds)
        consumer.incremental_unassign(partitions)

    def _dropped(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        _logger.warning("partitions lost", extra={"partitions": _numbers(partitions)})
        for number in _numbers(partitions):
            worker = self._workers.pop(number, None)
            if worker is not None:
                worker.drop()  # ends in its own time; the lock keeps the next owner waiting
        consumer.incremental_unassign(partitions)

    def _finish(self, numbers: list[int], seconds: float) -> None:
        """Have a checkpoint made of partitions, all at once, and release them."""
        workers = [self._workers.pop(number) for number in numbers if number in self._workers]
        for worker in workers:
            worker.accepting = False
            worker.finish()
        end = time.monotonic() + seconds
        for worker in workers:
            while worker.thread.is_alive() and time.monotonic() < end:
                if self._hurried.is_set():
                    break
                worker.thread.join(0.1)
            if worker.thread.is_alive():
                _logger.warning(
                    "no checkpoint in time; its messages will be taken again",
                    extra={"partition": worker.partition},
                )
                worker.drop()

    # ---- beginning and end ---------------------------------------------------------------------

    def _connect(self) -> Consumer:
        from confluent_kafka import Consumer, KafkaException

        config = self.settings.consumer()
        self._revoke_seconds = REVOKE_SHARE * int(config["max.poll.interval.ms"]) / 1000
        try:
            return Consumer(config, logger=_logger)
        except KafkaException as error:
            raise StreamError(self.settings.masked(f"consumer: {error.args[0].str()}")) from None

    def _check_topics(self) -> None:
        """Raise :class:`StreamError` unless a broker answers and knows all topics."""
        from confluent_kafka import KafkaException

        settings = self.settings
        try:
            known = self._consumer.list_topics(timeout=FIRST_CONTACT_SECONDS).topics
        except KafkaException as error:
            raise StreamError(
                settings.masked(f"no broker answers at {settings.brokers}: {error.args[0].str()}"),
                f"连不上 {settings.brokers}",
            ) from None
        missing = [n for n in (settings.topic, *settings.outputs()) if n not in known]
        if missing:
            raise StreamError(
                f"no topic {', '.join(missing)} at {settings.brokers}: create it first",
                f"{settings.brokers} 上没有主题 {'、'.join(missing)}，请先创建",
            )
        count = len(known[settings.topic].partitions)
        _logger.info("topic found", extra={"topic": settings.topic, "partitions": count})
        if count > 1:
            _logger.warning(
                "%s has %d partitions: detectors that compare codes (by enterprise, buyer, shop, "
                "device, drug) see one partition each; use one partition, or partition by province "
                "(docs/kafka.md)",
                settings.topic, count,
            )  # fmt: skip

    def _make_shard(self, log: EventLog, archive: Archive) -> Shard:
        engine = Engine(
            self._registry,
            self._policy,
            threads=self.settings.threads,
            lateness_days=None,
            log=log,
            keep_hits=False,
            hits_at_once=0,
            hash_key=self._key,
            close_after_days=self.settings.close_after_days,
            archive=archive,
        )
        return Shard(engine, self.settings.lateness_days, self.settings.future_days)

    def _fail(self, worker: PartitionWorker | None, error: BaseException) -> None:
        """Stop the member because of ``error``: the other partitions still get their checkpoint."""
        if worker is not None:
            _logger.error(
                "partition failed: %s", self.settings.masked(f"{type(error).__name__}: {error}"),
                extra={"partition": worker.partition},
            )  # fmt: skip
        if self._failure is None:
            self._failure = error
        self._stopping.set()

    def _end(self) -> None:
        _logger.info("stopping", extra={"partitions": sorted(self._workers)})
        self._finish(list(self._workers), STOP_SECONDS)
        self._consumer.close()
        _logger.info("stopped")

    # ---- progress ------------------------------------------------------------------------------

    def _tell(self) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        self._told_at = time.monotonic()
        for number, worker in sorted(self._workers.items()):
            try:
                _, high = self._consumer.get_watermark_offsets(
                    TopicPartition(self.settings.topic, number), cached=True
                )
            except KafkaException:
                high = -1
            position, committed = worker.position, worker.committed
            _logger.info(
                "progress",
                extra={
                    "partition": number,
                    "phase": worker.phase,
                    "offset": position,
                    "committed": committed,
                    "lag": max(0, high - (position or 0)) if high >= 0 else None,
                    "checkpoint_age": round(time.monotonic() - worker.committed_at, 1),
                    "waiting_messages": len(worker.inbox),
                    "waiting_bytes": worker.inbox.nbytes,
                    "paused": worker.paused,
                    **worker.view,
                },
            )


def _incoming(message: Message) -> Incoming:
    kind, milliseconds = message.timestamp()
    form, command = form_of(message.headers())
    return Incoming(
        message.offset() or 0,
        milliseconds * 1000 if kind and milliseconds > 0 else 0,
        message.value() or b"",
        form,
        command,
    )


def _numbers(partitions: list[TopicPartition]) -> list[int]:
    return [partition.partition for partition in partitions]


def run_stream(settings: StreamSettings, on_member: Callable[[StreamMember], Any]) -> None:
    """Load reference data and run a member; ``on_member`` gets it before it starts.

    Raises :class:`StreamError` where the key of pseudonyms is missing: with a random one, buyers
    would get other pseudonyms after each restart and on each member.
    """
    import os

    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise StreamError(
            f"{KEY_VARIABLE} is not set: members and restarts must hash personal numbers alike",
            f"未设置 {KEY_VARIABLE}：各成员、各次运行须用同一密钥散列个人号码",
        )
    registry = Registry.load(settings.registry)
    policy = Policy.load(settings.policy)
    member = StreamMember(settings, registry, policy, key.encode())
    on_member(member)
    member.run()

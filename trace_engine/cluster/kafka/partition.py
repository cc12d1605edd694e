"""One partition: a shard of its own, fed message by message, in a thread of its own.

A checkpoint is two steps. First the state with the next offset goes to disk. Then one transaction
publishes what was found since the last checkpoint and commits that offset. Killed before the
transaction is committed, nothing was seen of it and the offset is the old one, whose state is kept;
killed after, the new offset goes with the new state. Messages after it are read and judged again,
with the same findings, because these depend on the order of messages alone.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from trace_engine.cluster.kafka.errors import LostPartition, StreamError
from trace_engine.cluster.kafka.feed import Feed
from trace_engine.cluster.kafka.inbox import Inbox
from trace_engine.cluster.kafka.output import Outgoing, progress_message
from trace_engine.cluster.kafka.publisher import Fenced, Publisher, Unsettled
from trace_engine.cluster.kafka.settings import StreamSettings
from trace_engine.cluster.kafka.state import MakeShard, PartitionFolder
from trace_engine.cluster.shard import Shard

_logger = logging.getLogger("trace_engine.stream")

READING_MESSAGES, READING_BYTES = 20_000, 8 << 20  # decoded and judged at a time
IDLE_SECONDS = 0.5
LOCK_SECONDS = 0.2  # between tries
TELL_SECONDS = 30.0  # between notes on the same trouble
REOPEN_SECONDS = 5.0  # after a transaction of unknown outcome
FENCED_SECONDS = 15.0  # until a member that was fenced must have heard that it lost the partition
LOOK_SECONDS = 1.0
SHARE_OF_SAVING = 0.1  # of the time, at most, goes into saving state ...
MOST_STRETCHED = 20  # ... unless checkpoints came so many times as rarely as was asked for


@dataclass(frozen=True, slots=True)
class Tools:
    """What a partition needs of its member: how to make a shard, where to say it is ready."""

    settings: StreamSettings
    group: Callable[[], Any]  # the group's metadata as the consumer has it now
    ask_offset: Callable[[PartitionWorker], None]  # answered by :meth:`PartitionWorker.answer`
    make_shard: MakeShard
    reference: dict[str, str | None]
    key: bytes
    ready: Callable[[PartitionWorker, int | None], None]  # None: from the beginning
    failed: Callable[[PartitionWorker, BaseException], None]


class PartitionWorker:
    """Owns a partition from its assignment to its revocation.

    The member's thread puts messages into :attr:`inbox` while :attr:`accepting`; everything else
    happens in the worker's own thread.
    """

    def __init__(self, partition: int, tools: Tools) -> None:
        self.partition = partition
        self.inbox = Inbox(tools.settings.waiting_bytes)
        self.accepting = False  # set by the member once the consumer stands at the right offset
        self.paused = True
        self.position: int | None = None  # next offset to take; None: nothing taken yet
        self.committed: int | None = None
        self.committed_at = time.monotonic()
        self.feed: Feed | None = None
        self.view: dict[str, Any] = {}  # replaced as a whole, never changed
        self._looked_at = 0.0
        self.phase = "waiting for the lock"
        self._tools = tools
        self._settings = tools.settings
        self._folder = PartitionFolder(tools.settings.folder(partition), tools.key)
        self._publisher = Publisher(
            tools.settings.producer(partition),
            tools.group,
            self._gone,
            tools.settings.masked,
        )
        self._lost = threading.Event()
        self._ending = threading.Event()
        self._answered = threading.Event()
        self._answer: int | None = None
        self._save_seconds = 0.0
        name = f"{tools.settings.topic}-{partition}"
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    # ---- called by the member ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take the partition over."""
        self.thread.start()

    def finish(self) -> None:
        """Have a checkpoint made, then everything released. Join :attr:`thread` for the end."""
        self._ending.set()
        self.inbox.wake()

    def drop(self) -> None:
        """Have everything released and nothing written: the partition is somebody else's."""
        self._lost.set()
        self._ending.set()
        self.inbox.wake()

    def answer(self, offset: int | None) -> None:
        """Say what the group has committed, None for nothing."""
        self._answer = offset
        self._answered.set()

    def _gone(self) -> bool:
        # Whoever is to end before it has begun has nothing to save, and waits for no broker.
        return self._lost.is_set() or (self._ending.is_set() and self.feed is None)

    # ---- life ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._lock()
            while not self._ending.is_set():
                try:
                    self._open()
                    self._work()
                except Unsettled as error:
                    self._unsettled(error)
        except LostPartition:
            _logger.info("partition lost", extra={"partition": self.partition})
        except Exception as error:  # noqa: BLE001 - told to the member, which stops the process
            self._tools.failed(self, error)
        finally:
            self.accepting = False
            self.inbox.clear()
            self._publisher.close()
            self._folder.release()
            self.feed = None
            self.phase = "released"

    def _lock(self) -> None:
        told = time.monotonic()
        while not self._folder.acquire():
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                _logger.warning(
                    "state is locked by %s; waiting", self._folder.holder(),
                    extra={"partition": self.partition},
                )  # fmt: skip
            if self._ending.wait(LOCK_SECONDS):
                raise LostPartition

    def _unsettled(self, error: Unsettled) -> None:
        """Forget what is in memory: the broker says what holds when the partition is opened next."""
        self.accepting = False
        self.feed = None
        self.phase = "unsettled"
        _logger.warning(
            "transaction of unknown outcome; starting again from the last checkpoint",
            extra={"partition": self.partition, "problem": self._settings.masked(str(error))},
        )
        # Whoever is fenced while it holds the lock has either lost the partition and will hear of
        # it, or shares its group with members that keep their state elsewhere.
        fenced = isinstance(error, Fenced)
        if self._ending.wait(FENCED_SECONDS if fenced else REOPEN_SECONDS):
            raise LostPartition
        if fenced:
            raise StreamError(
                f"partition {self.partition} of {self._settings.topic} has another writer in group "
                f"{self._settings.group}: all members need the same state folder",
                f"{self._settings.topic} 的分区 {self.partition} 在消费组 {self._settings.group} "
                "中另有写入者：所有成员须共用同一状态文件夹",
            )

    def _open(self) -> None:
        """Find out from the broker which state is in force, and load it."""
        self.phase = "opening"
        self._publisher.open()
        committed = self._committed_offset()
        start: int | None
        if committed is None:
            self._check_unused()
            shard, start = self._folder.fresh(self._tools.make_shard), None
        else:
            self._settings_changed_note(committed)
            found = self._folder.load(committed, self._tools.make_shard)
            if found is None:
                shard, start = self._rebuilt(committed), None
            else:
                shard, start = found
            if start is None or start < committed:
                _logger.warning(
                    "taking messages again to rebuild the state; their findings were published",
                    extra={"partition": self.partition, "from": start, "to": committed},
                )
            if start == committed:
                self._folder.settle(committed)
        self.feed = Feed(self._settings, self.partition, shard, committed or 0)
        self.position, self.committed = start, committed
        self.committed_at = time.monotonic()
        self.phase = "running"
        self.inbox.clear()
        self._tools.ready(self, start)

    def _committed_offset(self) -> int | None:
        """Return the group's offset. The lock and the fence are ours: nobody will change it."""
        self._answered.clear()
        self._tools.ask_offset(self)
        while not self._answered.wait(IDLE_SECONDS):
            if self._ending.is_set():
                raise LostPartition
        return self._answer

    def _check_unused(self) -> None:
        """Refuse to start over where findings were published: the group's offset was deleted."""
        known = self._folder.committed()
        if known is not None:
            where = f"{self._settings.topic}-{self.partition}"
            raise StreamError(
                f"group {self._settings.group} has no offset for {where}, but {known} was committed "
                f"with the state in {self._folder.folder}: set the group's offset to {known}, or "
                "remove the folder to publish everything again",
                f"消费组 {self._settings.group} 没有 {where} 的位点，但 {self._folder.folder} 中的状态"
                f"已提交到 {known}：请把位点设为 {known}，或删除该文件夹以全部重新发布",
            )

    def _settings_changed_note(self, committed: int) -> None:
        known = self._folder.committed()
        if known is not None and known > committed:
            _logger.warning(
                "the group's offset was set back; findings after it will be published again",
                extra={"partition": self.partition, "from": known, "to": committed},
            )

    def _rebuilt(self, committed: int) -> Shard:
        if not self._settings.rebuild:
            raise StreamError(
                f"{self._folder.folder}: holds no state for offset {committed}, which the group "
                f"{self._settings.group} has committed: restore the folder, or start with "
                "--rebuild-state to take all messages again without publishing what was published",
                f"{self._folder.folder}：没有位点 {committed} 的状态，而消费组 "
                f"{self._settings.group} 已提交到该位点：请恢复该文件夹，或用 --rebuild-state 启动以"
                "重新读取全部消息（已发布的线索不再发布）",
            )
        return self._folder.fresh(self._tools.make_shard)

    # ---- work ----------------------------------------------------------------------------------

    def _work(self) -> None:
        feed = self.feed
        if feed is None:
            raise AssertionError("a partition is opened before it is worked on")
        while True:
            messages = self.inbox.take(READING_MESSAGES, READING_BYTES, IDLE_SECONDS)
            if self._lost.is_set():
                raise LostPartition
            if messages and not self._ending.is_set():
                feed.take(messages)
                self.position = messages[-1].offset + 1
            if self._ending.is_set():
                self._checkpoint(feed)
                return
            self._look(feed)
            if self._due(feed):
                self._checkpoint(feed)

    def _look(self, feed: Feed) -> None:
        """Note how things stand, for the member's progress lines."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        engine = feed.shard.engine
        self.view = {
            "latest_day": _date(feed.shard.latest_day),
            "closed_through": _date(feed.shard.closed_through),
            "events_held": len(engine.buffer),
            "live_codes": len(engine.shards),
            "archived_codes": len(engine.shards.archive or ()),
            "state_bytes": engine.shards.nbytes + engine.identity.nbytes + engine.buffer.nbytes,
            "unpublished": len(feed.pending),
            **asdict(feed.tally),
        }

    def _due(self, feed: Feed) -> bool:
        if self.position is None or self.position == self.committed:
            return False
        if len(feed.pending) >= self._settings.checkpoint_findings:
            return True
        # Saving a large state takes long: it waits longer then, so that judging goes on.
        asked = self._settings.checkpoint_seconds
        pause = min(max(asked, self._save_seconds / SHARE_OF_SAVING), MOST_STRETCHED * asked)
        return time.monotonic() - self.committed_at >= pause

    def _checkpoint(self, feed: Feed) -> None:
        """Save the state, then publish and commit in one transaction."""
        offset = self.position
        if offset is None or offset == self.committed or self._before_publishing(offset, feed):
            return
        self.phase = "saving"
        begun = time.monotonic()
        self._folder.save(feed.shard, offset, self._tools.reference)
        self._save_seconds = time.monotonic() - begun
        self.phase = "committing"
        outgoing = [*feed.pending, *self._progress(feed, offset)]
        self._publisher.commit(outgoing, self._settings.topic, self.partition, offset)
        feed.pending.clear()
        self.committed = offset
        self.committed_at = time.monotonic()
        self._folder.settle(offset)
        self.phase = "running"

    def _progress(self, feed: Feed, offset: int) -> list[tuple[str, Outgoing]]:
        """Return what readers of findings are told: through which day they are complete."""
        topic = self._settings.progress_topic
        if topic is None:
            return []
        said = {
            "topic": self._settings.topic,
            "partition": self.partition,
            "offset": offset,
            "latest_day": _date(feed.shard.latest_day),
            "closed_through": _date(feed.shard.closed_through),
            "counts": feed.shard.engine.counts,
        }
        return [(topic, progress_message(said))]

    def _before_publishing(self, offset: int, feed: Feed) -> bool:
        """Whether the state is still behind what is committed: it would not be found again."""
        return offset < feed.publish_from


def _date(day: int | None) -> str | None:
    return None if day is None else (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()

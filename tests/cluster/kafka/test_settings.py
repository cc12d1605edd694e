from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from trace_engine.cli.commands.stream import FORMATS, stream
from trace_engine.cli.errors import UserError
from trace_engine.cluster.kafka import settings as module
from trace_engine.cluster.kafka.errors import StreamError
from trace_engine.cluster.kafka.inbox import Inbox
from trace_engine.cluster.kafka.lines import show_lines
from trace_engine.cluster.kafka.messages import Incoming
from trace_engine.cluster.kafka.settings import StreamSettings, parse_properties


def made(**changes: object) -> StreamSettings:
    given = {"brokers": "b:1", "topic": "t", "findings_topic": "f", "rejects_topic": "r"}
    return StreamSettings(**{**given, "state": Path("s"), **changes})  # type: ignore[arg-type]


def test_properties_go_to_the_client_they_name(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text("# secret\nsasl.password = a=b \n\nconsumer.fetch.min.bytes=7\n")
    file.chmod(0o600)
    found = parse_properties(["producer.linger.ms=9", "client.id=x"], file)
    settings = made(properties=found)
    consumer, producer = settings.consumer(), settings.producer(4)
    assert consumer["sasl.password"] == producer["sasl.password"] == "a=b"
    assert settings.admin() == {
        "sasl.password": "a=b", "client.id": "x", "bootstrap.servers": "b:1",
    }  # fmt: skip
    assert (consumer["fetch.min.bytes"], "fetch.min.bytes" in producer) == ("7", False)
    assert (producer["linger.ms"], "linger.ms" in consumer) == ("9", False)
    assert producer["transactional.id"] == "trace-engine.t-4"
    assert consumer["isolation.level"] == "read_committed"
    assert consumer["enable.auto.commit"] is False


def test_secrets_stay_secret(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text("sasl.password=hunter22\n")
    file.chmod(0o644)
    with pytest.raises(StreamError, match="chmod"):
        parse_properties([], file)
    with pytest.raises(StreamError) as error:
        parse_properties(["hunter22"])
    assert "hunter22" not in str(error.value)
    settings = made(properties={"sasl.password": "hunter22"})
    assert "hunter22" not in repr(settings)
    assert settings.masked('wrong value "hunter22"') == 'wrong value "***"'


@pytest.mark.parametrize("name", ["group.id", "consumer.isolation.level", "bootstrap.servers"])
def test_what_exactly_once_rests_on_cannot_be_changed(name: str) -> None:
    with pytest.raises(StreamError, match="set by the stream"):
        made(properties={name: "x"})


def test_topics_must_differ() -> None:
    with pytest.raises(StreamError, match="give each its own"):
        made(findings_topic="t")
    with pytest.raises(StreamError, match="give each its own"):
        made(progress_topic="r")


def test_forms_of_the_command_are_those_of_the_stream() -> None:
    assert FORMATS == module.FORMATS


def test_the_command_needs_a_key_and_a_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("confluent_kafka")
    args = ["--brokers", "127.0.0.1:9", "--topic", "t", "--state", str(tmp_path)]
    monkeypatch.delenv("TRACE_ENGINE_HASH_KEY", raising=False)
    with pytest.raises(UserError, match="TRACE_ENGINE_HASH_KEY"):
        stream.main(args, standalone_mode=False)
    monkeypatch.setenv("TRACE_ENGINE_HASH_KEY", "k")
    monkeypatch.setattr("trace_engine.cluster.kafka.member.FIRST_CONTACT_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9"):
        stream.main(args, standalone_mode=False)
    with pytest.raises(UserError, match="consumer"):
        stream.main([*args, "--property", "security.protocol=hunter22"], standalone_mode=False)


def test_an_inbox_is_full_until_half_is_taken() -> None:
    inbox = Inbox(3000)
    inbox.put([Incoming(i, 0, b"x" * 800) for i in range(2)])
    assert not inbox.full
    inbox.put([Incoming(i, 0, b"x" * 800) for i in (2, 3)])
    assert inbox.full
    assert [m.offset for m in inbox.take(2, 1 << 20, 0)] == [0, 1]
    assert inbox.full
    assert [m.offset for m in inbox.take(9, 1000, 0)] == [2]
    assert not inbox.full
    inbox.clear()
    assert (len(inbox), inbox.nbytes, inbox.take(1, 1, 0)) == (0, 0, [])


def test_lines_are_json_or_text(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("trace_engine.stream")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    out = io.StringIO()
    show_lines("json", out).info("pro\ngress %d", 1, extra={"lag": None, "path": Path("x")})
    line = json.loads(out.getvalue())
    assert (line["message"], line["lag"], line["path"], line["level"]) == (
        "pro\ngress 1",
        None,
        "x",
        "info",
    )
    out = io.StringIO()
    show_lines("text", out).warning("a\nb", extra={"lag": 3})
    assert out.getvalue().endswith("warning a b lag=3\n")

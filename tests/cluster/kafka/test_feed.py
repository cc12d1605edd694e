"""Messages to findings without a broker: what a message means depends on nothing but itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.kafka.market import Market
from trace_engine.cluster.kafka.cuts import cuts
from trace_engine.cluster.kafka.feed import Feed
from trace_engine.cluster.kafka.messages import Incoming, MessageDecoder, form_of
from trace_engine.cluster.kafka.output import finding_messages
from trace_engine.cluster.kafka.settings import StreamSettings
from trace_engine.cluster.shard import Shard
from trace_engine.engine import Engine
from trace_engine.events.batch import DAY, Vocabulary
from trace_engine.events.encode import Encoder
from trace_engine.events.findings import FINDINGS
from trace_engine.registry import Registry

EVENT = {
    "event_time": "2026-03-05 10:00:00",
    "event_type": "retail_sale",
    "code": "81234567000010001234",
    "actor_id": "S1",
}
CHINESE = {"业务时间": "2026-03-05", "单据类型": "retail_sale", "追溯码": "81234567000010001234"}


def decoder(form: str = "auto") -> MessageDecoder:
    return MessageDecoder("t", 3, Encoder(Vocabulary(), key=b"k"), form)


def incoming(*values: bytes) -> list[Incoming]:
    return [Incoming(100 + i, 0, value) for i, value in enumerate(values)]


def encoded(**changes: object) -> bytes:
    return msgspec.json.encode({**EVENT, **changes})


def test_events_know_their_messages() -> None:
    values = [
        encoded(),
        b"[" + encoded(code="8" * 20) + b",\n" + encoded() + b"]",
        encoded() + b"\n\n" + encoded(quantity="3") + b"\r\n",
        msgspec.json.format(encoded(), indent=2),
    ]
    done = decoder().decode(incoming(*values))
    assert done.rejects == []
    assert [m for part in done.events for m in part.message] == [0, 1, 1, 2, 2, 3]
    assert [o for part in done.events for o in part.batch.origin] == [100, 101, 101, 102, 102, 103]
    assert done.events[0].batch.quantity.tolist() == [1, 1, 1, 1, 3, 1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "bad_json"),
        (b"nonsense", "bad_json"),
        (b'"text"', "bad_json"),
        (b"[1]", "bad_json"),
        (b'{"a": {}}{"b": 1}', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"code": "\xff"}', "undecodable"),
        (encoded(code=["8"]), "nested_value"),
        (b"\xff\xff\xff\xff\0\0", "bad_arrow"),
        (b'{"event_type": "retail_sale"}', "missing_event_time"),
        (msgspec.json.encode({**EVENT, **CHINESE}), "bad_headers"),
        (msgspec.json.encode(CHINESE), "bad_headers"),
    ],
)
def test_a_bad_message_spoils_no_other(value: bytes, reason: str) -> None:
    good = encoded()
    done = decoder().decode(incoming(good, value, good))
    assert [m for part in done.events for m in part.message] == [0, 2]
    (reject,) = done.rejects
    assert (reject["topic"], reject["partition"], reject["offset"]) == ("t", 3, 101)
    assert reject["reason"] == reason


def test_chinese_headers_beside_canonical_ones() -> None:
    chinese = msgspec.json.encode({**CHINESE, "操作企业": "S1"})
    done = decoder().decode(incoming(encoded(), chinese, encoded(), chinese))
    assert done.rejects == []
    assert [m for part in done.events for m in part.message] == [0, 1, 2, 3]


def test_rejects_show_no_personal_number() -> None:
    done = decoder().decode(
        incoming(b'{"buyer_id": "13800138000"', encoded(code="", buyer_id="13800138000"))
    )
    assert len(done.rejects) == 2
    assert "13800138000" not in str(done.rejects)
    assert "p:" in str(done.rejects)


def test_headers_say_the_form() -> None:
    assert form_of([("Content-Type", b"application/x-ndjson; charset=utf-8")]) == ("ndjson", "")
    assert form_of({"content-type": "text/html"}) == ("", "")
    assert form_of([("trace-engine-command", b" Advance ")]) == ("", "advance")
    assert form_of(None) == ("", "")


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=3), st.integers(0, 4)), max_size=30),
    st.sampled_from([None, 0, 3]),
    st.sampled_from([None, 1, 3]),
)
def test_cuts_are_where_a_message_raises_the_day(
    messages: list[tuple[list[int], int]], latest: int | None, future: int | None
) -> None:
    """Against the rule, message by message: nothing that raises the day stands before an end."""
    times, owner = [], []
    for index, (days, _) in enumerate(messages):
        times += [day * DAY for day in days]
        owner += [index] * len(days)
    received = np.array([day * DAY for _, day in messages], np.int64)
    ends = cuts(np.array(times, np.int64), np.array(owner, np.int64), received, latest, future)
    assert ends[-1:] == [len(times)][: len(ends)]
    assert bool(ends) == bool(times)
    seen = -1 if latest is None else latest
    for index in sorted(set(owner)):
        limit = 99
        if future is not None and received[index] > 0:
            limit = (received[index] + 8 * 3_600_000_000) // DAY + future
        days = [d for d in messages[index][0] if d <= limit]
        last = max(i for i, o in enumerate(owner) if o == index)
        if max(days, default=-1) > seen:
            seen = max(days)
            assert last + 1 in ends
    assert all(end == len(times) or owner[end] != owner[end - 1] for end in ends)


def feed(market: Market, publish_from: int = 0) -> Feed:
    engine = Engine(
        Registry.load(market.registry), lateness_days=None, keep_hits=False, hits_at_once=0
    )
    settings = StreamSettings("b", "t", "f", "r", market.folder)
    return Feed(settings, 0, Shard(engine, 2, 2), publish_from)


def test_findings_depend_on_no_reading(short_market: Market) -> None:
    """However many messages are read at once; and what was published is not published again."""
    messages = [Incoming(i, 0, value) for i, (value, _) in enumerate(short_market.messages())]
    messages.append(Incoming(len(messages), 0, b"2035-01-01", "", "advance"))
    whole = feed(short_market)
    whole.take(messages)
    parts = feed(short_market, 1500)
    for start in range(0, len(messages), 400):
        parts.take(messages[start : start + 400])
    assert {m.key.decode() for _, m in whole.pending} == short_market.findings.keys()
    later = [m for m in whole.pending if int(m[1].source.rsplit("/", 1)[1]) >= 1500]
    assert 0 < len(later) < len(whole.pending)
    assert parts.pending == later


def test_conflicts_and_bad_commands_are_rejected(short_market: Market) -> None:
    taking = feed(short_market)
    same = [encoded(event_id="E1", quantity=n) for n in (1, 2)]
    messages = [Incoming(i, 0, v) for i, v in enumerate([same[0], b" ", same[1]])]
    messages += [Incoming(3, 0, b"soon", "", "advance"), Incoming(4, 0, b"x", "", "dance")]
    messages += [Incoming(5, 0, b"2026-04-01", "", "advance")]
    taking.take(messages)
    rejects = [msgspec.json.decode(m.value) for topic, m in taking.pending if topic == "r"]
    assert [(r["offset"], r["reason"]) for r in rejects] == [
        (3, "bad_command"), (4, "bad_command"), (2, "event_id_conflict"),
    ]  # fmt: skip
    assert (taking.tally.empty, taking.tally.commands, taking.tally.rejects) == (1, 3, 3)
    counts = taking.shard.engine.counts
    assert counts["rows"] == counts["events"] + counts["duplicates"] + counts["rejects"]


def test_a_long_finding_is_cut_and_says_so() -> None:
    row = dict.fromkeys(FINDINGS.names) | {
        "finding_id": "F1",
        "codes": [f"{i:020d}" for i in range(2000)],
        "event_ids": ["e"] * 10,
        "code_count": 2000,
    }
    table = FINDINGS.empty_table().from_pylist([row], FINDINGS)
    (message,) = finding_messages(table, [True], "t/0/1", 10_000)
    said = msgspec.json.decode(message.value)
    assert len(message.value) <= 10_000
    assert said["truncated"] == ["codes"]
    assert (said["code_count"], said["late"], message.key) == (2000, True, b"F1")
    assert 0 < len(said["codes"]) < 2000

"""Notes reach the audit log in order, together, and not at all silently lost."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from trace_engine.events.privacy import Pseudonyms
from trace_engine.service.access import Caller, Role
from trace_engine.service.audit import AuditFullError, AuditTrail, Note, masked, notes_of

WAIT = 20.0


class Log:
    """An audit log that can be out of reach, and counts its commits."""

    def __init__(self) -> None:
        self.groups: list[list[Note]] = []
        self.failing = 0
        self.gate = threading.Event()
        self.gate.set()

    def add(self, notes: list[Note]) -> None:
        assert self.gate.wait(WAIT)
        if self.failing:
            self.failing -= 1
            raise OSError("database is out of reach")
        self.groups.append(list(notes))


def note(number: int) -> Note:
    return {"number": number}


def test_who_waits_hears_when_it_is_written() -> None:
    log = Log()
    trail = AuditTrail(log.add)
    trail.start()
    done = trail.put([note(1)], wait=True)
    assert done is not None
    done.result(WAIT)
    assert log.groups == [[note(1)]]
    trail.close()


def test_notes_of_many_are_written_together_and_in_order() -> None:
    log = Log()
    log.gate.clear()
    trail = AuditTrail(log.add)
    trail.start()
    for number in range(500):
        trail.put([note(number)], wait=False)
    log.gate.set()
    trail.close()
    assert [n["number"] for group in log.groups for n in group] == list(range(500))
    assert len(log.groups) < 10


def test_log_out_of_reach_is_tried_again_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trace_engine.service.audit._RETRY_SECONDS", (0.01,))
    log = Log()
    log.failing = 3
    trail = AuditTrail(log.add)
    trail.start()
    done = trail.put([note(1)], wait=True)
    assert done is not None
    done.result(WAIT)
    assert trail.failures == 3
    assert log.groups == [[note(1)]]
    trail.close()


def test_one_who_gave_up_does_not_stop_the_rest() -> None:
    log = Log()
    log.gate.clear()
    trail = AuditTrail(log.add)
    trail.start()
    given_up = trail.put([note(1)], wait=True)
    assert given_up is not None
    assert given_up.cancel()
    log.gate.set()
    after = trail.put([note(2)], wait=True)
    assert after is not None
    after.result(WAIT)
    assert [n["number"] for group in log.groups for n in group] == [1, 2]
    trail.close()


def test_queue_that_is_full_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trace_engine.service.audit.MOST_QUEUED", 3)
    trail = AuditTrail(Log().add)  # not started: nothing is taken
    for number in range(3):
        trail.put([note(number)], wait=False)
    with pytest.raises(AuditFullError):
        trail.put([note(3)], wait=False)


def test_lost_notes_at_the_end_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trace_engine.service.audit._RETRY_SECONDS", (0.01,))
    log = Log()
    log.failing = 1_000_000
    trail = AuditTrail(log.add)
    trail.start()
    trail.put([note(1)], wait=False)
    trail.close()
    lost = [r.__dict__ for r in caplog.records if r.message == "audit notes were lost"]
    assert [n["notes"] for n in lost] == [[note(1)]]  # the log of the service has them at least
    assert log.groups == []


def test_notes_are_made_whole_once() -> None:
    state = {
        "audit": [("seller.read", "S1", {"page": 1})],
        "caller": Caller("k1", "desk", frozenset({Role.READ})),
        "request_id": "r1",
    }
    (made,) = notes_of(state, "10.0.0.1")
    at = made.pop("at")
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert made == {
        "key_id": "k1",
        "name": "desk",
        "address": "10.0.0.1",
        "request_id": "r1",
        "action": "seller.read",
        "subject": "S1",
        "details": {"page": 1},
    }
    assert notes_of(state, "10.0.0.1") == []


def test_numbers_of_identity_cards_are_noted_as_pseudonyms() -> None:
    secret = Pseudonyms(b"test")
    card = "11010519491231002X"
    noted = secret.of(card)
    for text, expected in (
        (card, noted),
        ("110105 19491231 002x", noted),
        ("１１０１０５１９４９１２３１００２Ｘ", noted),
        (f"about {card}, born 1949", f"about {noted}, born 1949"),
        ("关于１１０１０５１９４９１２３１００２Ｘ", f"关于{noted}"),
    ):
        assert masked(text, lambda: secret) == expected
    told = {"ids": ["f1", card], "more": {"by": [card, 7, None, True]}, card: 0.5}
    assert masked(("S1", told), lambda: secret) == [
        "S1",
        {"ids": ["f1", noted], "more": {"by": [noted, 7, None, True]}, noted: 0.5},
    ]


def test_what_is_no_identity_card_is_noted_as_it_is() -> None:
    secret = Pseudonyms(b"test")
    for text in (
        "110105194912310021",  # its check character is wrong
        "81000010000000000017",
        "91370100MA3C0X0X0X",
        "f" * 64,
        "药品批号 20260301 １２",
        "XS-20260301-000000000000187",
    ):
        assert masked(text, lambda: secret) == text

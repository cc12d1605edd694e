"""Logs: JSON, one line each, and never a secret or a person's number."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from trace_engine.service import logs
from trace_engine.service.access import Role, new_key

CARD, MOBILE = "110101199003070038", "13812345678"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    own = {name: logging.getLogger(name).level for name in ("trace_engine", "uvicorn")}
    out = io.StringIO()
    logs.configure("info", out)
    yield out
    logging.captureWarnings(False)
    for name, before in own.items():
        logging.getLogger(name).setLevel(before)
    root.handlers[:] = handlers
    root.setLevel(level)


def written(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_line(stream: io.StringIO) -> None:
    logging.getLogger("trace_engine.x").info("two\nlines 线索", extra={"rows": 7})
    (line,) = written(stream)
    assert line["message"] == "two\nlines 线索"
    assert line["level"] == "INFO"
    assert line["logger"] == "trace_engine.x"
    assert line["rows"] == 7
    assert str(line["time"]).endswith(("Z", "+00:00"))


def test_secrets_and_numbers_of_persons_are_hidden_wherever_they_stand(
    stream: io.StringIO,
) -> None:
    from datetime import UTC, datetime

    key, _ = new_key("x", frozenset({Role.READ}), now=datetime(2026, 1, 1, tzinfo=UTC))
    logger = logging.getLogger("trace_engine.x")
    logger.info("key %s of %s", key, CARD, extra={"inner": {"to": [f"tel {MOBILE}", 5]}})
    logger.info("Authorization: Bearer abcdefghijkl and postgresql://me:hunter2@db/x")
    try:
        raise ValueError(f"bad value {CARD}")
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    for secret in (key.split("_", 2)[2], CARD, MOBILE, "abcdefghijkl", "hunter2"):
        assert secret not in text
    lines = written(stream)
    assert lines[0]["inner"] == {"to": [f"tel {logs.HIDDEN}", 5]}
    assert "ValueError" in str(lines[2]["exc_info"])


def test_codes_bills_and_times_stay_readable(stream: io.StringIO) -> None:
    kept = "/v1/codes/81234567890123456789 bill 20260301123456789012 at 2026-03-01T08:00:00"
    logging.getLogger("trace_engine.x").info(kept)
    assert written(stream)[0]["message"] == kept


def test_warnings_of_libraries_are_json_too() -> None:
    code = (
        "import warnings, sys; from trace_engine.service import logs; logs.configure('info');"
        "warnings.warn('odd')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "odd" in json.loads(done.stderr)["message"]

"""What a member says while it runs: a line of JSON, or of text, for each thing worth saying."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any, TextIO

import msgspec

# What every record has; anything beside it was said on purpose.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _said(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _USUAL}


def _time(record: logging.LogRecord) -> str:
    return dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")


class JsonLines(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``message``, then what was said beside."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_said(record),
        }
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextLines(logging.Formatter):
    """One line of text: time, level, message, ``name=value`` of what was said beside."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = " ".join(f"{name}={value}" for name, value in _said(record).items())
        text = " ".join(record.getMessage().split())
        return f"{_time(record)} {record.levelname.lower()} {text} {said}".rstrip()


def show_lines(form: str, stream: TextIO, *, verbose: bool = False) -> logging.Logger:
    """Write what members say to ``stream``, as ``json`` or ``text``, and return their logger."""
    logger = logging.getLogger("trace_engine.stream")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return logger

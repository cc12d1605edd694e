"""Structured logs: one JSON object a line on standard error, for journald or a container's log.

Keys never reach a log (requests are logged by key id), and what slips into a text all the same is
hidden here: anything that looks like a key, an identity card or a mobile number becomes ``***``.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from trace_engine.events.privacy import Pseudonyms

HIDDEN = "***"
_KEY = re.compile(r"te_[0-9a-f]{12}_[A-Za-z0-9_\-]{8,}")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9_\-.=+/]{8,}")
# Most texts have nothing that the rules below could find: one look decides. What is not ASCII may
# hold full-width digits.
_SUSPECT = re.compile(r"te_|(?i:bearer|basic)|://|\d{11}|[^\x00-\x7f]")
# A password inside a database URL.
_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s/@]+@")


class _Hidden(Pseudonyms):
    """Personal numbers in a log are hidden, not even told apart."""

    def of(self, text: str) -> str:
        return HIDDEN


_HIDDEN = _Hidden(b"")


def hidden(text: str) -> str:
    """Return ``text`` without keys, passwords and numbers of persons."""
    if _SUSPECT.search(text) is None:
        return text
    text = _KEY.sub(f"te_{HIDDEN}", text)
    text = _AUTHORIZATION.sub(rf"\1 {HIDDEN}", text)
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    return _HIDDEN.mask_inside(text)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, dict):
        return {_clean(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(inner) for inner in value]
    return value


class Formatter(JsonFormatter):
    """Records as JSON: ``time`` (UTC), ``level``, ``logger``, ``message`` and what was given."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
            json_ensure_ascii=False,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the record's fields with secrets hidden."""
        log_data.pop("color_message", None)  # uvicorn's, for terminals
        return {name: _clean(value) for name, value in log_data.items()}


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send all logs of the process to ``stream`` (default: standard error) as JSON."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING if level != "debug" else logging.INFO)
    for name in ("trace_engine", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(True)

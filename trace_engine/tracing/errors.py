"""What cannot be traced, in one line and in both languages."""

from __future__ import annotations


class TraceError(Exception):
    """A question that the state cannot answer. ``str()`` is English, ``zh`` Chinese."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh

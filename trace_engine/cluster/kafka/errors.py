"""What can go wrong on the way from one topic to another."""

from __future__ import annotations


class StreamError(Exception):
    """The stream cannot start or go on: one line that says why and what to do, in two languages."""

    def __init__(self, message: str, zh: str | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.zh = " ".join(zh.split()) if zh else None


class LostPartition(Exception):  # noqa: N818 - no failure: somebody else goes on with the partition
    """The partition belongs to another member now; nothing more may be written for it."""

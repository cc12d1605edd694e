"""SHA-256 of input files, for the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file as 64 hex digits, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The error every unusable policy ends in."""

from __future__ import annotations


class PolicyError(ValueError):
    """A policy file cannot be used. The message is one line: ``file:line: found, expected``."""

"""The command line. Importing it loads click and the standard library only."""

from trace_engine.cli.root import main, run

__all__ = ["main", "run"]

"""The latest checkpoints of a running engine, named by a rising number."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trace_engine.store.checkpoint import (
    CheckpointError,
    check_state,
    load_engine,
    save_engine,
)
from trace_engine.store.eventlog import FolderLog

if TYPE_CHECKING:
    from trace_engine.engine import Engine

KEPT = 2

_NAME = re.compile(r"\d{20}")
_SPARE = ".spare"  # a state that is not needed: its space is
_LEFT = re.compile(r"\.\d{20}\.(partial|before)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state that is whole."""

    number: int
    folder: Path
    values: dict[str, Any]

    def load(self, engine: Engine, *, any_reference: bool = False) -> None:
        """Fill a fresh engine with it (see ``store.checkpoint.load_engine``)."""
        load_engine(engine, self.folder, any_reference=any_reference)


class CheckpointFolder:
    """A folder of states, each named by the number (a journal's offset) up to which it knows all.

    The two latest are kept, and the space of a third, which the next one is written to. With
    ``sync`` a state is on the disk before an older one is removed, so that a power cut leaves one
    that is whole.
    """

    def __init__(self, path: str | Path, *, sync: bool = True) -> None:
        self.path = Path(path)
        self.sync = sync
        self._left_out: set[int] = set()  # found not to be whole
        self.path.mkdir(parents=True, exist_ok=True)

    def numbers(self) -> list[int]:
        """Return the numbers of the checkpoints there are, ascending, whole or not."""
        return sorted(int(p.name) for p in self.path.iterdir() if _NAME.fullmatch(p.name))

    def folder(self, number: int) -> Path:
        """Return where the checkpoint of a number lies."""
        return self.path / f"{number:020d}"

    def latest(self) -> Checkpoint | None:
        """Return the latest checkpoint that is whole, None if there never was one.

        Of each later one that is not, a warning says what is wrong with it.

        Raises
        ------
        CheckpointError
            If there are checkpoints and none is whole: beginning anew is for an operator to decide.
        """
        wrong: list[str] = []
        for number in reversed(self.numbers()):
            try:
                values = check_state(self.folder(number))
            except CheckpointError as error:
                wrong.append(str(error))
                self._left_out.add(number)
                continue
            for line in wrong:
                _log.warning("checkpoint left out, %d is used: %s", number, line)
            return Checkpoint(number, self.folder(number), values)
        if wrong:
            raise CheckpointError(f"{self.path}: no checkpoint is whole: {'; '.join(wrong)}")
        return None

    def save(
        self,
        engine: Engine,
        number: int,
        values: Mapping[str, Any],
        reference: Mapping[str, str | None] | None = None,
    ) -> Checkpoint:
        """Save the engine's state under ``number`` and remove what it makes superfluous.

        That is all but this checkpoint and the one before it (one with a larger number, or one that
        is not whole, was left out by :meth:`latest`), what an interrupted save left, and files of
        the log that are not of it.
        """
        left_out = self._left_out
        before = [other for other in self.numbers() if other < number and other not in left_out]
        spare = self.path / _SPARE
        self._drop_partial()  # what failed saves wrote may be what the disk is full of
        save_engine(
            engine, self.folder(number), reference, values=values, sync=self.sync, spare=spare
        )
        shutil.rmtree(spare, ignore_errors=True)
        left_out.discard(number)
        kept = {number, *before[-(KEPT - 1) :]}
        for path in list(self.path.iterdir()):
            if _LEFT.fullmatch(path.name):
                shutil.rmtree(path)
            elif _NAME.fullmatch(path.name) and int(path.name) not in kept:
                if spare.exists():
                    shutil.rmtree(path)
                else:
                    path.rename(spare)
        if isinstance(engine.log, FolderLog):
            engine.log.drop_others()
        return Checkpoint(number, self.folder(number), dict(values))

    def _drop_partial(self) -> None:
        """Remove what saves that were stopped or failed have written so far."""
        for path in list(self.path.iterdir()):
            if _LEFT.fullmatch(path.name) and path.name.endswith(".partial"):
                shutil.rmtree(path)

"""The whole state of an engine on disk: one file of arrays, the log's files and a manifest.

::

    state.json      format, versions, values, what is in the other files, with checksums
    state.bin       lines of codes, sums, words, events held back, ... (``store.arrays``)
    log/            the event log, unless it lies in a lasting folder (``store.savedlog``)

No pickle anywhere: arrays are raw bytes of plain types, tables are Arrow streams, the rest is JSON.
A folder is written under another name first and then renamed, so it is whole or absent.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from trace_engine import __version__
from trace_engine.core.archive import Archive
from trace_engine.store.archive import check_archive, load_archive, save_archive
from trace_engine.store.arrays import (
    DamagedError,
    check_arrays,
    read_arrays,
    read_some,
    write_arrays,
)
from trace_engine.store.enginestate import (
    UnfitError,
    collect,
    places,
    restore,
    vocabulary_of,
    word_arrays,
)
from trace_engine.store.savedlog import check_log, load_log, save_log, settled
from trace_engine.store.syncing import fsync_path

if TYPE_CHECKING:
    from trace_engine.engine import Engine
    from trace_engine.events.batch import Vocabulary

FORMAT = 4
MANIFEST = "state.json"
ARRAYS = "state.bin"

_NOTHING: Mapping[str, Any] = {}


class CheckpointError(Exception):
    """A state that cannot be used: one line that says why."""


def check_state_folder(folder: str | os.PathLike[str]) -> None:
    """Raise :class:`CheckpointError` unless a state may be written to ``folder``."""
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target}: is a file, expected a folder")
    if target.exists() and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise CheckpointError(f"{target}: is not empty and holds no saved state")


def save_engine(
    engine: Engine,
    folder: str | os.PathLike[str],
    reference: Mapping[str, str | None] | None = None,
    *,
    values: Mapping[str, Any] = _NOTHING,
    sync: bool = False,
    spare: Path | None = None,
) -> None:
    """Write the state of ``engine`` to ``folder``, replacing a state that is there.

    Parameters
    ----------
    reference
        Where registry and policy lie (:func:`read_reference`).
    values
        Anything that JSON can say, for :func:`read_values`.
    sync
        Have it on the disk, and not only with the system, before it takes the folder's name.
    spare
        A state that nobody needs any more, on the same disk: its file of arrays is written over,
        so that the disk need not find space.

    Raises
    ------
    CheckpointError
        If ``folder`` holds something else.
    """
    check_state_folder(folder)
    target = Path(folder)
    partial = target.with_name(f".{target.name}.partial")
    before = _before(target)
    if before.exists() and not target.exists():  # a save was stopped between two renames
        before.rename(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if spare is not None:
        with suppress(FileNotFoundError):
            if (spare / ARRAYS).stat().st_nlink == 1:  # else somebody's copy shares its bytes
                (spare / ARRAYS).rename(partial / ARRAYS)
    with engine.guard:  # who reads along may go on while it is written: nothing changes meanwhile
        arrays, plain = collect(engine)
    log = save_log(engine.log, target, partial, sync=sync)
    archived, archive = save_archive(engine.shards.archive, target, sync=sync)
    arrays |= archived
    body = {
        "code_version": __version__,
        "policy_version": engine.policy.version,
        "registry": engine.registry.content_hash,
        "reference": dict(reference or {}),
        "values": dict(values),
        "engine": plain,
        "arrays": write_arrays(partial / ARRAYS, arrays, sync=sync),
        "log": log,
        "archive": archive,
    }
    manifest = {"format": FORMAT, "check": _check(body), "state": body}
    with (partial / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, ensure_ascii=False)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    if sync:
        fsync_path(partial)
    if target.exists():
        shutil.rmtree(before, ignore_errors=True)
        target.rename(before)
    partial.rename(target)
    settled(engine.log, partial, target)
    if sync:
        fsync_path(target.resolve().parent)
    shutil.rmtree(before, ignore_errors=True)


def _before(target: Path) -> Path:
    """Return where the state that is being replaced lies for a moment."""
    return target.with_name(f".{target.name}.before")


def _check(body: Any) -> int:
    """Return a checksum of what a manifest says."""
    return zlib.crc32(json.dumps(body).encode())


def read_reference(folder: str | os.PathLike[str]) -> dict[str, str | None]:
    """Return where the registry and the policy of a saved state lay, as far as that was said."""
    named: dict[str, str | None] = _manifest(Path(folder))["reference"]
    return named


def read_values(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values that a state was saved with."""
    values: dict[str, Any] = _manifest(Path(folder))["values"]
    return values


def _manifest(source: Path) -> dict[str, Any]:
    """Return what the manifest of a saved state says, checked for its format and damage."""
    path = source / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = ""
        if not source.exists() and (_before(source) / MANIFEST).is_file():
            hint = f"; the one before lies in {_before(source)}: rename it"
        raise CheckpointError(f"{source}: no saved state ({error.strerror}){hint}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{source}: state of format {found}, expected {FORMAT}")
    body = manifest.get("state")
    if not isinstance(body, dict) or manifest.get("check") != _check(body):
        raise CheckpointError(f"{path}: damaged")
    return body


def check_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values of a saved state, all of whose files are whole.

    Raises
    ------
    CheckpointError
        One line naming what is missing or damaged.
    """
    source = Path(folder)
    body = _manifest(source)
    try:
        check_log(source, body["log"])
        check_archive(source, body.get("archive"))
        check_arrays(source / ARRAYS, body["arrays"])
    except DamagedError as error:
        raise CheckpointError(str(error)) from error
    values: dict[str, Any] = body["values"]
    return values


def read_vocabulary(folder: str | os.PathLike[str]) -> Vocabulary:
    """Return the vocabulary of a saved state, for an engine with other reference data.

    Raises :class:`CheckpointError` as :func:`load_engine` does.
    """
    source = Path(folder)
    index = _manifest(source)["arrays"]
    try:
        return vocabulary_of(read_some(source / ARRAYS, index, word_arrays()))
    except (DamagedError, KeyError, pa.ArrowInvalid) as error:
        raise CheckpointError(f"{source}: damaged: {error}") from error


def other_reference(engine: Engine, folder: str | os.PathLike[str]) -> list[str]:
    """Return what differs from the reference data a state was made with: registry, policy."""
    body = _manifest(Path(folder))
    found = []
    if body["registry"] != engine.registry.content_hash:
        found.append("registry")
    if body["policy_version"] != engine.policy.version:
        found.append("policy")
    return found


def load_engine(
    engine: Engine, folder: str | os.PathLike[str], *, any_reference: bool = False
) -> None:
    """Fill a fresh ``engine`` with the state in ``folder``. See ``Engine.load``.

    With ``any_reference`` the engine may have another registry or policy than the state was made
    with: what it judges from now on is judged by these. It must have been made with the state's
    :func:`read_vocabulary`.

    An engine whose log is a folder goes on in it, and chunks there that are not of this state are
    removed (see ``store.savedlog``). Where an error is raised the engine must not be used.
    """
    source = Path(folder)
    body = _manifest(source)
    if not any_reference and body["policy_version"] != engine.policy.version:
        raise CheckpointError(
            f"{source}: made with policy {body['policy_version']!r}, found "
            f"{engine.policy.version!r}"
        )
    if not any_reference and body["registry"] != engine.registry.content_hash:
        raise CheckpointError(f"{source}: made with another registry")
    index = body["arrays"]
    shapes = {name: tuple(shape) for name, (_, shape, _) in index["arrays"].items()}
    try:
        check_log(source, body["log"])
        check_archive(source, body.get("archive"))
        arrays = read_arrays(source / ARRAYS, index, places(engine, shapes))
    except DamagedError as error:
        raise CheckpointError(str(error)) from error
    try:
        restore(engine, arrays, body["engine"])
    except UnfitError as error:
        raise CheckpointError(f"{source}: {error}") from error
    load_log(engine.log, source, body["log"])
    archived = body.get("archive")
    if archived is not None:
        if engine.shards.archive is None:
            engine.shards.archive = Archive()
        load_archive(engine.shards.archive, source, archived, arrays)

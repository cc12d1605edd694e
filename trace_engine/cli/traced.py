"""What ``trace`` looks into: a saved state, or the input files that an output folder names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trace_engine.cli.bilingual import say
from trace_engine.cli.errors import UserError, one_line
from trace_engine.cli.progress import Progress, note_if_cold

if TYPE_CHECKING:
    from trace_engine.engine import Engine

STATE, OUTPUT = "state.json", "manifest.json"


@contextmanager
def opened(source: Path, registry: Path | None, policy: str | None) -> Iterator[Engine]:
    """Yield an engine that has followed the packs of ``source``.

    ``registry`` and ``policy`` replace those that the source names. Raises :class:`UserError` where
    the source is neither a state nor an output folder, or where something it names is gone.
    """
    if (source / STATE).is_file():
        yield _state(source, registry, policy)
    elif (source / OUTPUT).is_file():
        with _followed(source, registry, policy) as engine:
            yield engine
    else:
        raise UserError(
            say(
                f"{source}：既不是 score --state 保存的状态，也不是 score 的结果文件夹",
                f"{source}: neither a state saved by score --state nor an output folder of score",
            )
        )


def _state(source: Path, registry: Path | None, policy: str | None) -> Engine:
    from trace_engine.engine import Engine
    from trace_engine.policy import Policy
    from trace_engine.registry import Registry
    from trace_engine.store.checkpoint import CheckpointError, read_reference

    try:
        named = read_reference(source)
        folder = registry if registry is not None else _path(named, "registry")
        if folder is not None and not folder.exists():
            raise UserError(
                say(
                    f"{source}：保存时所用的登记数据 {folder} 已不在，请用 --registry 指定",
                    f"{source}: was saved with the registry {folder}, which is gone: "
                    "give --registry",
                )
            )
        rules = Policy.load(policy if policy is not None else named.get("policy"))
        return Engine.load(source, Registry.load(folder), rules)
    except CheckpointError as error:
        raise UserError(one_line(str(error))) from error


@contextmanager
def _followed(source: Path, registry: Path | None, policy: str | None) -> Iterator[Engine]:
    from trace_engine.policy import Policy
    from trace_engine.registry import Registry
    from trace_engine.reports import manifest
    from trace_engine.scoring import follow

    record = manifest.read(source)
    inputs = [str(entry["path"]) for entry in record["head"]["inputs"]]
    gone = [path for path in inputs if not Path(path).is_file()]
    if gone or not inputs:
        raise UserError(
            say(
                f"{source}：输入文件已不在（{(gone or ['-'])[0]}），无法追溯；"
                "评分时加 --state 可保存状态",
                f"{source}: its input files are gone ({(gone or ['-'])[0]}), so nothing can be "
                "traced; score with --state to keep a state",
            )
        )
    run = record["run"]
    folder = registry if registry is not None else _path(run, "registry")
    with Progress() as progress:
        note_if_cold(progress)
        if folder is not None and not folder.exists():
            progress.note(
                say(
                    f"登记数据 {folder} 已不在：不用登记数据追溯",
                    f"the registry {folder} is gone: tracing without one",
                )
            )
            folder = None
        with follow(
            inputs,
            registry=Registry.load(folder),
            policy=Policy.load(policy if policy is not None else run.get("policy")),
            format=str(run.get("format") or "auto"),
            progress=progress,
        ) as engine:
            yield engine


def _path(named: Mapping[str, Any], name: str) -> Path | None:
    value = named.get(name)
    return Path(str(value)) if value else None

"""What ``serve``, ``keys`` and ``backup`` share: where the service's data are, and its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trace_engine.cli.bilingual import Text, option, say
from trace_engine.cli.errors import UserError, one_line

if TYPE_CHECKING:
    from trace_engine.service.settings import ServiceSettings

_PATH = click.Path(path_type=Path)
_PLACES = (
    option(
        "--config",
        type=_PATH,
        metavar="FILE",
        about=Text(
            "TOML 配置文件（默认 TRACE_ENGINE_CONFIG）。", "Settings (TOML; TRACE_ENGINE_CONFIG)."
        ),
    ),
    option(
        "--data",
        type=_PATH,
        metavar="DIR",
        about=Text(
            "数据文件夹：日志、状态、默认数据库（默认 trace-engine-data）。",
            "Journal, state and default database (default: trace-engine-data).",
        ),
    ),
    option(
        "--database",
        metavar="URL",
        about=Text(
            "数据库地址，如 postgresql://…（默认数据文件夹内的 SQLite）。",
            "Database, like postgresql://... (default: SQLite inside the data folder).",
        ),
    ),
)


def places(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config``, ``--data`` and ``--database``."""
    for decorate in reversed(_PLACES):
        function = decorate(function)
    return function


def settings_from(config: Path | None, **given: Any) -> ServiceSettings:
    """Return the service's settings; :class:`UserError` with one line if one is wrong."""
    from trace_engine.service.settings import SettingsError, load

    try:
        return load(config, **given)
    except SettingsError as error:
        fault = one_line(str(error))
        raise UserError(say(f"配置有误：{fault}", f"settings: {fault}")) from error

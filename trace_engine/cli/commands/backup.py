"""``trace-engine backup``: copy the data of a running service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trace_engine.cli.bilingual import Text, command, common, option, say
from trace_engine.cli.errors import DONE, UserError, one_line
from trace_engine.cli.service import places, settings_from

_PATH = click.Path(path_type=Path)


@command(
    about=Text(
        "备份服务的数据文件夹（检查点、事件日志、SQLite 数据库、接收日志），服务可照常运行。\n\n"
        "数据库的位置按 --database、配置，或服务在数据文件夹中的记录（database.json）确定。"
        "备份可直接作为 serve --data 使用。个人号码散列密钥（hash.key）不在其中，须另行保管；"
        "PostgreSQL 请在其后用 pg_dump 备份。",
        "Back up the data folder of a service: checkpoint, log of events, SQLite database, journal. "
        "The service may run meanwhile.\n\n"
        "Where the database is, --database or the settings say, else what the service noted in the "
        "folder (database.json). The copy can be given to serve --data. The key that hashes "
        "personal numbers (hash.key) is not in it: keep it elsewhere. Back up PostgreSQL with "
        "pg_dump, afterwards.",
    )
)
@places
@option(
    "--out",
    type=_PATH,
    required=True,
    metavar="DIR",
    about=Text("备份文件夹（须尚不存在）。", "Folder of the backup (must not exist)."),
)
@common
def backup(out: Path, lang: str | None, debug: bool, **where: Any) -> int:  # noqa: ARG001
    """Copy, check and say what was copied."""
    from trace_engine.store.checkpoint import CheckpointError
    from trace_engine.store.migrate import StoreError
    from trace_engine.store.place import OtherDatabaseError, place_of
    from trace_engine.store.service_backup import backup_service

    settings = settings_from(where.pop("config"), **where)
    data = settings.data
    try:
        given = None if settings.database is None else place_of(settings.database, data)
        made = backup_service(data, out, given)
    except OtherDatabaseError as error:
        raise UserError(one_line(say(error.zh, str(error)))) from error
    except (CheckpointError, StoreError) as error:
        raise UserError(one_line(str(error))) from error
    size = f"{made.bytes / 2**20:.1f} MB"
    click.echo(
        say(
            f"已备份到 {out}：{size}，检查点位置 {made.offset}",
            f"backed up to {out}: {size}, checkpoint at record {made.offset}",
        )
    )
    if not made.has_database:
        click.echo(
            say(
                f"数据库不在此文件夹内（{made.database}）：请现在备份（PostgreSQL 用 pg_dump -Fc）",
                f"the database does not lie here ({made.database}): back it up now "
                "(PostgreSQL: pg_dump -Fc)",
            )
        )
    return DONE

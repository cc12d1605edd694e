"""``trace-engine serve``: the engine as a service, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trace_engine.cli.bilingual import Text, command, common, option, say
from trace_engine.cli.errors import DONE, UserError, one_line
from trace_engine.cli.service import places, settings_from
from trace_engine.cli.settings import policy_option, registry_option

if TYPE_CHECKING:
    from trace_engine.service.settings import ServiceSettings

SWITCH_SECONDS = 0.0002
_PATH = click.Path(path_type=Path)


@command(
    about=Text(
        "启动 HTTP 服务：接收事件，持续给出线索、排名与抽检计划。\n\n"
        "其余设置（限额、保留年限等）见配置文件和 TRACE_ENGINE_* 环境变量（docs/operations.md）。"
        "未设密钥时只允许监听本机地址。收到 SIGTERM 后保存检查点并以 0 退出。",
        "Run the HTTP service: events in; findings, ranking and plans out, around the clock.\n\n"
        "More settings (limits, retention, ...) by --config and TRACE_ENGINE_* variables: see "
        "docs/operations.md. Without keys it listens on this machine only. SIGTERM saves a "
        "checkpoint and exits with 0.",
    )
)
@places
@registry_option
@policy_option
@option("--host", about=Text("监听地址（默认 127.0.0.1）。", "Address (default: 127.0.0.1)."))
@option(
    "--port",
    type=click.IntRange(0, 65535),
    about=Text(
        "监听端口（默认 8420；0：任意空闲端口，启动时显示）。",
        "Port (default: 8420; 0: any free one, which is printed).",
    ),
)
@option(
    "--tls-certificate",
    type=_PATH,
    metavar="FILE",
    about=Text("TLS 证书（PEM，含中间证书）。", "TLS certificate with its chain (PEM)."),
)
@option("--tls-key", type=_PATH, metavar="FILE", about=Text("TLS 私钥（PEM）。", "TLS key (PEM)."))
@option(
    "--tls-client-ca",
    type=_PATH,
    metavar="FILE",
    about=Text(
        "要求调用方出示该机构签发的证书。", "Callers must show a certificate of this authority."
    ),
)
@option(
    "--lateness-days",
    type=click.IntRange(0, 366),
    about=Text(
        "已见最晚一日之前仍不结算的天数（默认 2）。",
        "Days before the latest one seen that stay open (default: 2).",
    ),
)
@option(
    "--checkpoint-seconds",
    type=click.FloatRange(1, 86_400),
    about=Text("检查点间隔秒数（默认 300）。", "Seconds between checkpoints (default: 300)."),
)
@option(
    "--checkpoint-rows",
    type=click.IntRange(1),
    about=Text(
        "检查点间隔行数（默认 10000000）。", "Rows between checkpoints (default: 10000000)."
    ),
)
@option(
    "--threads",
    type=click.IntRange(1, 1024),
    about=Text(
        "引擎线程数（默认：可用处理器数减一，至少 1）。",
        "Threads of the engine (default: processors - 1, at least 1).",
    ),
)
@option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    about=Text("日志级别（默认 info）。", "What is logged (default: info)."),
)
@common
def serve(lang: str | None, debug: bool, **given: Any) -> int:  # noqa: ARG001
    """Open the stores, listen, and close everything in order when told to stop."""
    settings = settings_from(given.pop("config"), **given)
    refuse_unguarded(settings)
    # The engine's thread holds the interpreter between kernels; by default it would keep it for
    # 5 ms each time a request wants it. A request wants it some fifty times, as each kernel and each
    # call of Arrow gives it away.
    sys.setswitchinterval(SWITCH_SECONDS)
    run(settings)
    return DONE


def refuse_unguarded(settings: ServiceSettings) -> None:
    """Raise :class:`UserError` for an address that others reach while there is no key."""
    from trace_engine.service.keyring import opened
    from trace_engine.store.database import StoreError

    try:
        with opened(settings, service=True) as (keys, database):
            guarded = keys.any()
    except StoreError as error:
        raise UserError(one_line(str(error))) from error
    if guarded:
        return
    if not settings.is_loopback:
        raise UserError(
            say(
                f"尚无密钥（{database.url}），不在 {settings.host} 上监听（他人可达）："
                "先运行 trace-engine keys add，或监听 127.0.0.1",
                f"will not listen on {settings.host}, which others reach, without keys: there are "
                f"none in {database.url}; run trace-engine keys add first, or listen on 127.0.0.1",
            )
        )
    click.echo(
        say(
            "警告：尚无密钥，本机任何程序都可使用全部功能（trace-engine keys add）",
            "warning: no keys exist, so every program on this machine may do everything "
            "(trace-engine keys add)",
        ),
        err=True,
    )


def run(settings: ServiceSettings) -> None:
    """Serve until a signal comes, then save a checkpoint and close the stores."""
    from trace_engine.policy import PolicyError
    from trace_engine.registry import RegistryError
    from trace_engine.service import logs, server
    from trace_engine.service.app import create_app
    from trace_engine.service.host import EngineHost
    from trace_engine.service.settings import SettingsError
    from trace_engine.service.settling import Settling
    from trace_engine.service.upkeep import Upkeep
    from trace_engine.store.audit import AuditLog
    from trace_engine.store.checkpoint import CheckpointError
    from trace_engine.store.database import StoreError
    from trace_engine.store.journal import JournalError

    try:
        settings.tls_context()  # before anything slow: a wrong certificate is told at once
    except SettingsError as error:
        raise UserError(one_line(str(error))) from error
    bound = server.bind(settings)
    try:
        url = server.url_of(bound, settings)
        logs.configure(settings.log_level)
        try:
            host = EngineHost.open(settings)
        except (
            CheckpointError,
            JournalError,
            PolicyError,
            RegistryError,
            StoreError,
        ) as error:
            raise UserError(one_line(str(error))) from error
        upkeep = Upkeep(
            host.database,
            AuditLog(host.database),
            settings.retention_years,
            deleted=host.tally.recount,
        )
        settled = host.after_save = Settling()
        said = say(f"已启动：{url}（状态页 {url}/）", f"listening on {url} (status at {url}/)")

        def ready() -> None:
            settled()
            click.echo(said)

        try:
            host.start()
            upkeep.start()
            server.run(create_app(host, settings), settings, bound, ready)
        finally:
            upkeep.close()
            host.close(settings.close_seconds)
    finally:
        bound.close()

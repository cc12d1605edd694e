"""``trace-engine keys``: who may use the service."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

from trace_engine.cli.bilingual import LANGUAGES, Command, Text, common, language, option, say
from trace_engine.cli.errors import DONE, UserError, one_line
from trace_engine.cli.service import places, settings_from

if TYPE_CHECKING:
    from trace_engine.store.keys import KeyRecord

ROLES = ("ingest", "read", "officer", "admin")  # of trace_engine.service.access.Role
SHANGHAI = timezone(timedelta(hours=8))
MOST_NAME = 100
_DAYS = re.compile(r"([1-9][0-9]{0,4})d")


class Group(Command, click.Group):
    """A group of commands with help in both languages."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, its help in the chosen language."""
        found = super().get_command(ctx, cmd_name)
        if isinstance(found, Command) and found.about is not None:
            found.help = str(found.about)
        return found


@click.group(
    cls=Group,
    about=Text(
        "管理服务密钥：发放、查看、吊销。\n\n"
        "密钥只在发放时显示一次，数据库中仅存其散列。角色：ingest 上报事件；read 查看；"
        "officer 查看并处置；admin 全部。",
        "Manage the keys of the service: add, list, revoke.\n\n"
        "A key is shown once, when it is made; the database keeps only a digest of it. Roles: "
        "ingest sends events; read sees; officer sees and decides; admin does everything.",
    ),
)
@option(
    "--lang",
    type=click.Choice(LANGUAGES),
    expose_value=False,
    about=Text("中文或英文（默认按系统语言）。", "Chinese or English (default: the locale's)."),
)
def keys() -> None:
    """Manage keys."""


def moment_of(text: str, now: datetime) -> datetime:
    """Return when a key given ``--expires text`` ends: ``90d``, or a day (through its end)."""
    days = _DAYS.fullmatch(text)
    try:
        if days is not None:
            return now + timedelta(days=int(days[1]))
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=SHANGHAI)
    except (ValueError, OverflowError):
        raise UserError(
            say(
                f"--expires：读到 {text}，应如 365d 或 2027-12-31",
                f"--expires: found {text}, expected like 365d or 2027-12-31",
            )
        ) from None
    end = day + timedelta(days=1)
    if end <= now:
        raise UserError(say(f"--expires：{text} 已经过去", f"--expires: {text} is in the past"))
    return end.astimezone(UTC)


def state_of(record: KeyRecord, now: datetime) -> str:
    """Return whether a key is valid, in words."""
    if record.revoked_at is not None:
        return say("已吊销", "revoked")
    if record.expires_at is not None and record.expires_at <= now:
        return say("已过期", "expired")
    return say("有效", "valid")


@keys.command(
    name="add",
    cls=Command,
    about=Text(
        "发放一个密钥：显示在标准输出，仅此一次。",
        "Make a key and print it on standard output, this once.",
    ),
)
@option(
    "--name",
    required=True,
    about=Text("密钥用于谁、何处（记入审计日志）。", "Whose it is; stands in the audit log."),
)
@option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    required=True,
    about=Text("角色，可多次给出。", "A role; may be given several times."),
)
@option(
    "--expires",
    metavar="DAY",
    about=Text(
        "有效期：如 365d，或截止日 2027-12-31（默认不过期）。",
        "When it ends: 365d, or a last day like 2027-12-31 (default: never).",
    ),
)
@places
@common
def add(
    name: str,
    roles: tuple[str, ...],
    expires: str | None,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
    **where: Any,
) -> int:
    """Store a new key and print its text."""
    from trace_engine.service.access import Role, new_key

    name = one_line(name).strip()
    if not 0 < len(name) <= MOST_NAME:
        raise UserError(
            say(
                f"--name 应为 1 至 {MOST_NAME} 个字符", f"--name must have 1 to {MOST_NAME} letters"
            )
        )
    now = datetime.now(UTC)
    until = moment_of(expires, now) if expires is not None else None
    text, record = new_key(name, frozenset(map(Role, roles)), now=now, expires_at=until)
    _with_keys(where, lambda store: store.add(record), "key.add", record.key_id, roles=list(roles))
    click.echo(
        say(
            f"密钥 {record.key_id}（{name}：{', '.join(record.roles)}），只显示这一次：",
            f"key {record.key_id} ({name}: {', '.join(record.roles)}), shown only now:",
        ),
        err=True,
    )
    click.echo(text)
    return DONE


@keys.command(
    name="list",
    cls=Command,
    about=Text("列出全部密钥（不含密钥本身）。", "List all keys, without the keys themselves."),
)
@places
@common
def list_keys(lang: str | None, debug: bool, **where: Any) -> int:  # noqa: ARG001
    """Print a table of keys."""
    from trace_engine.cli.show import table

    rows = _with_keys(where, lambda store: store.all())
    if not rows:
        click.echo(say("尚无密钥", "no keys"))
        return DONE
    now = datetime.now(UTC)
    headers = (
        ("编号", "名称", "角色", "状态", "发放", "到期", "最近使用")
        if language() == "zh"
        else ("id", "name", "roles", "state", "made", "ends", "last used")
    )
    table(
        headers,
        [
            (
                row.key_id,
                row.name,
                ", ".join(row.roles),
                state_of(row, now),
                _day(row.created_at),
                _day(row.expires_at),
                _day(row.last_used_at),
            )
            for row in rows
        ],
    )
    return DONE


@keys.command(
    name="revoke",
    cls=Command,
    about=Text(
        "吊销一个密钥；运行中的服务在数秒内生效。",
        "Revoke a key; a running service refuses it within seconds.",
    ),
)
@click.argument("key_id", metavar="ID")
@places
@common
def revoke(key_id: str, lang: str | None, debug: bool, **where: Any) -> int:  # noqa: ARG001
    """Revoke the key of an id."""
    now = datetime.now(UTC)
    # The whole key is taken too: whoever found it somewhere has that at hand.
    key_id = key_id.split("_")[1] if key_id.startswith("te_") else key_id
    known = _with_keys(where, lambda store: store.get(key_id))
    if known is None:
        raise UserError(say(f"没有编号为 {key_id} 的密钥", f"no key has the id {key_id}"))
    _with_keys(where, lambda store: store.revoke(key_id, now), "key.revoke", key_id)
    click.echo(say(f"已吊销：{key_id}（{known.name}）", f"revoked: {key_id} ({known.name})"))
    return DONE


def _with_keys(
    where: dict[str, Any], work: Any, action: str = "", subject: str = "", **details: Any
) -> Any:
    """Return what ``work`` returns of the store of keys; ``action`` goes into the audit log."""
    from trace_engine.service.keyring import opened
    from trace_engine.store.audit import AuditLog
    from trace_engine.store.database import StoreError
    from trace_engine.store.place import OtherDatabaseError

    given = dict(where)
    settings = settings_from(given.pop("config"), **given)
    try:
        with opened(settings) as (store, database):
            if action:
                note = {"at": datetime.now(UTC), "name": _operator(), "action": action}
                AuditLog(database).add([note | {"subject": subject, "details": details}])
            return work(store)
    except OtherDatabaseError as error:
        raise UserError(one_line(say(error.zh, str(error)))) from error
    except StoreError as error:
        raise UserError(one_line(str(error))) from error


def _operator() -> str:
    """Return who runs the command, for the audit log."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user may have no name
        return "cli"


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"

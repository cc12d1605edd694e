"""Every expected error becomes one line on standard error, and an exit code of the contract.

0 done; 1 ran, but some input was rejected (or a check found a difference); 2 unusable arguments or
input. Anything unexpected is a fault of the program: it keeps its traceback under ``--debug`` and
says how to get it otherwise.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import click

from trace_engine.cli.bilingual import language, say

DONE = 0
SOME_REJECTED = 1
UNUSABLE = 2
INTERRUPTED = 130

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Names of the library's own error classes: found by name along the class's ancestry, so that this
# module need not import what raises them (numpy and pyarrow would come along).
EXPECTED_NAMES = frozenset(
    {
        "InputError",
        "RegistryError",
        "PolicyError",
        "OutputError",
        "ConservationError",
        "TruthError",
        "TraceError",
        "CheckpointError",
        "JournalError",
        "StoreError",
    }
)


class UserError(Exception):
    """Something the user asked for cannot be done; the text is ready to be shown."""


def one_line(text: str) -> str:
    """Return ``text`` as a single line: whitespace runs collapsed, control characters replaced.

    File names and headers are other people's text: what would move the cursor is not printed.
    """
    return " ".join(_CONTROL.sub("\ufffd", " ".join(text.split())).split())


def print_error(text: str) -> None:
    """Print one error line to standard error."""
    click.echo(say("错误：", "error: ") + one_line(text), err=True)


def is_expected(error: BaseException) -> bool:
    """Return whether ``error`` is one a user can cause: bad input, bad policy, a full disk."""
    if isinstance(error, (UserError, OSError, MemoryError)):
        return True
    return any(cls.__name__ in EXPECTED_NAMES for cls in type(error).__mro__)


def describe(error: BaseException) -> str:
    """Return what to tell the user about an expected error, in the chosen language."""
    if isinstance(error, OSError) and error.errno is not None:
        return _describe_os_error(error)
    if isinstance(error, MemoryError):
        return say(
            "内存不足：请调小 --memory 或减少 --workers。",
            "out of memory: lower --memory or --workers",
        )
    own = getattr(error, "zh", None) if language() == "zh" else None
    return str(own) if own else (str(error) or type(error).__name__)


def _describe_os_error(error: OSError) -> str:
    where = os.fspath(error.filename) if error.filename is not None else ""
    where = where.decode(errors="replace") if isinstance(where, bytes) else str(where)
    known = {
        errno.ENOENT: say("找不到文件或文件夹", "no such file or folder"),
        errno.EACCES: say("没有权限", "permission denied"),
        errno.EPERM: say("没有权限", "permission denied"),
        errno.ENOSPC: say("磁盘空间不足", "no space left on the disk"),
        errno.EROFS: say("文件系统只读", "read-only file system"),
        errno.EISDIR: say("需要文件，得到的是文件夹", "is a folder, expected a file"),
        errno.ENOTDIR: say("需要文件夹，得到的是文件", "is a file, expected a folder"),
        errno.ENAMETOOLONG: say("名称过长", "name too long"),
    }
    what = known.get(error.errno or 0, error.strerror or str(error))
    return f"{where}: {what}" if where else what


def describe_usage(error: click.ClickException) -> str:
    """Return one line for an error in the arguments, in the chosen language."""
    if language() != "zh":
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" (see '{error.ctx.command_path} --help')"
        said = one_line(error.format_message()).rstrip(".")
        return said.replace("valid integer range", "valid integer") + hint
    return _describe_usage_zh(error)


def _describe_usage_zh(error: click.ClickException) -> str:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"（见 {error.ctx.command_path} --help）"
    if isinstance(error, click.NoSuchOption):
        near = "、".join(error.possibilities or ())
        return f"没有选项 {error.option_name}" + (f"，是否指 {near}？" if near else "") + hint
    if isinstance(error, click.MissingParameter):
        name = error.param.make_metavar(error.ctx) if error.param and error.ctx else ""
        if isinstance(error.param, click.Option):
            name = " / ".join(error.param.opts)
        return f"缺少 {name}{hint}"
    if isinstance(error, click.BadOptionUsage):
        return f"选项 {error.option_name} 用法不对：{error.message}{hint}"
    if isinstance(error, click.BadParameter):
        name = ""
        if error.param is not None:
            name = " / ".join(error.param.opts)
        return f"{name} 的值不可用：{_bad_value_zh(error.message)}{hint}"
    if isinstance(error, click.UsageError) and error.message == "Missing command.":
        return f"缺少命令{hint}"
    return f"{error.format_message()}{hint}"


# What click says of values, and how it is said in Chinese.
_BAD_VALUES_ZH = (
    (re.compile(r"(.+) is not in the range (.+?)\.?"), r"读到 \1，应在范围 \2 内"),
    (re.compile(r"'(.*)' is not a valid integer(?: range)?\.?"), r"读到 \1，应为整数"),
    (re.compile(r"'(.*)' is not one of (.+?)\.?"), r"读到 \1，应为 \2 之一"),
    (re.compile(r"'(.*)' does not match the formats? (.+?)\.?"), r"读到 \1，格式应为 \2"),
)


def _bad_value_zh(message: str) -> str:
    for pattern, chinese in _BAD_VALUES_ZH:
        found = pattern.fullmatch(message)
        if found is not None:
            return found.expand(chinese)
    return message


def refuse_occupied(folder: Path, *, force: bool) -> None:
    """Raise :class:`UserError` if ``folder`` holds anything and ``force`` is not given."""
    if folder.exists() and not folder.is_dir():
        raise UserError(
            say(f"{folder}：需要文件夹，得到的是文件", f"{folder}: is a file, expected a folder")
        )
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            say(
                f"{folder}：文件夹非空；请换一个文件夹，或加 --force",
                f"{folder}: is not empty; choose another folder or add --force",
            )
        )

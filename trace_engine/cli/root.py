"""The command group: names and one-line descriptions of all commands, loaded when used.

``trace-engine --help`` must answer at once, so this module imports click and nothing else; a
command's module is imported when the command runs, and imports numpy and the like inside its
function.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from trace_engine.cli.bilingual import (
    LANGUAGES,
    Context,
    Option,
    Text,
    language_of,
    say,
    set_language,
)
from trace_engine.cli.errors import (
    INTERRUPTED,
    UNUSABLE,
    describe,
    describe_usage,
    is_expected,
    print_error,
)


class Entry(NamedTuple):
    """Where a command lives and what the group's help says of it."""

    module: str
    about: Text


COMMANDS: dict[str, Entry] = {
    "demo": Entry(
        "demo",
        Text(
            "一条命令看全流程：模拟市场、评分、排名、抽检计划、评估。",
            "See it all at once: simulate, score, rank, plan, evaluate.",
        ),
    ),
    "simulate": Entry(
        "simulate",
        Text(
            "生成模拟追溯数据（含已知违规与真值）。",
            "Make a synthetic market with planted schemes.",
        ),
    ),
    "score": Entry(
        "score",
        Text(
            "对追溯数据评分：线索、企业排名、抽检计划、报告。",
            "Score traceability data: findings, ranking, plan, report.",
        ),
    ),
    "rank": Entry(
        "rank", Text("查看结果文件夹中的企业排名。", "Show the ranking in an output folder.")
    ),
    "plan": Entry("plan", Text("按预算重做抽检计划。", "Make a sampling plan for a budget.")),
    "explain": Entry(
        "explain",
        Text(
            "解释一条线索、一家企业或一个追溯码。",
            "Explain a finding, a seller or a trace code.",
        ),
    ),
    "trace": Entry(
        "trace",
        Text(
            "追溯一个码、一批药或一家企业的去向与来源。",
            "Trace a code, a batch or an enterprise: where to and where from.",
        ),
    ),
    "evaluate": Entry(
        "evaluate",
        Text("与真值对照：召回、误报、排名精度。", "Compare with the truth: recall, precision."),
    ),
    "catalog": Entry(
        "catalog",
        Text("列出全部检测规则及参数、单位、依据。", "List all detectors, parameters, sources."),
    ),
    "convert": Entry(
        "convert",
        Text("把数据转成标准事件表。", "Convert data to the canonical event table."),
    ),
    "verify": Entry(
        "verify",
        Text("核对结果文件夹是否被改动。", "Check that an output folder is unchanged."),
    ),
    "serve": Entry(
        "serve",
        Text(
            "启动 HTTP 服务：接收事件，持续给出线索。",
            "Run the HTTP service: events in, findings out.",
        ),
    ),
    "keys": Entry(
        "keys", Text("管理服务密钥。", "Manage the keys of the service: add, list, revoke.")
    ),
    "stream": Entry(
        "stream",
        Text("从 Kafka 读取事件，向 Kafka 写出线索。", "Events from Kafka, findings to Kafka."),
    ),
    "backup": Entry("backup", Text("备份运行中的服务。", "Back up the data of a running service.")),
    "warmup": Entry(
        "warmup",
        Text("预先编译计算内核。", "Compile the kernels ahead of the first run."),
    ),
    "doctor": Entry(
        "doctor",
        Text("检查运行环境。", "Check the installation and its surroundings."),
    ),
    "version": Entry("version", Text("显示版本。", "Show the version.")),
}

ABOUT = Text(
    "在药品追溯扫码数据中找出可疑的销售企业：先查谁、为什么、抽什么。\n\n"
    "快速开始：trace-engine demo；或 trace-engine score 数据文件夹 --out 结果文件夹",
    "Find suspicious drug sellers in traceability scans: whom to sample next, and why.\n\n"
    "Start with: trace-engine demo; or trace-engine score DATA --out OUTPUT",
)


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports each only when it is used."""

    context_class = Context

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Choose the language from the raw arguments, then parse them."""
        set_language(language_of(args))
        self.help = str(ABOUT)
        return super().make_context(info_name, args, parent, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of a user's way through them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None if there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"trace_engine.cli.commands.{entry.module}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, str(entry.about)) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the named command; an unknown name is refused with the nearest known one."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, 1)
            hint = say(f"，是否指 {near[0]}？", f"; did you mean {near[0]!r}?") if near else ""
            ctx.fail(say(f"没有命令 {name!r}{hint}", f"no such command {name!r}{hint}"))
        return super().resolve_command(ctx, args)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return ``--help`` with its text in the chosen language."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = say("显示本页并退出。", "Show this page and exit.")
        return option


group = LazyGroup(
    name="trace-engine",
    params=[
        Option(
            ["--lang"],
            type=click.Choice(LANGUAGES),
            expose_value=False,
            about=Text(
                "中文或英文（默认按系统语言）。", "Chinese or English (default: the locale's)."
            ),
        ),
    ],
    no_args_is_help=True,
)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line with ``args`` (default: the process's) and return the exit code.

    Never raises for what a user can cause: that is one line on standard error and code 2.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    set_language(language_of(arguments))
    debug = "--debug" in arguments
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            code = group.main(arguments, prog_name="trace-engine", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return UNUSABLE
    except click.ClickException as error:
        print_error(describe_usage(error))
        return UNUSABLE
    except (KeyboardInterrupt, click.Abort):
        click.echo(say("已中断", "interrupted"), err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`); leave without Python's own complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 (the last place that can speak to the user)
        if debug:
            traceback.print_exc()
            return UNUSABLE
        if is_expected(error):
            print_error(describe(error))
        else:
            print_error(
                say(
                    f"程序内部错误 {type(error).__name__}: {error}（加 --debug 查看详情）",
                    f"internal error {type(error).__name__}: {error} (run with --debug for more)",
                )
            )
        return UNUSABLE


def _show_warning(message: Warning | str, *_: Any) -> None:
    """Print a warning as one line, without the place in the source that Python adds."""
    text = say(getattr(message, "zh", str(message)), str(message))
    click.echo(say("注意：", "warning: ") + " ".join(text.split()), err=True)


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run())

"""How far a run has come: a bar on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from trace_engine.cli.bilingual import Text, say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_EVERY = 5.0  # seconds between plain lines of one stage

STAGES: dict[str, Text] = {
    "simulate": Text("生成数据", "simulate"),
    "registry": Text("读取登记数据", "load registry"),
    "hash": Text("计算输入指纹", "hash inputs"),
    "score": Text("评分（字节）", "score (bytes)"),
    "wait for reading": Text("等待读取", "wait for reading"),
    "wait for encoding": Text("等待解码", "wait for encoding"),
    "admit": Text("去重", "admit"),
    "log": Text("记录", "log"),
    "custody": Text("流转还原", "custody"),
    "detect": Text("规则检测", "detect"),
    "fold": Text("汇总", "fold"),
    "findings": Text("生成线索", "findings"),
    "rank": Text("排名", "rank"),
    "plan": Text("抽检计划", "plan"),
    "write": Text("写出结果", "write"),
    "convert": Text("转换", "convert"),
    "scan": Text("查找追溯码", "look for the code"),
    "compile": Text("编译内核", "compile kernels"),
}


def stage_name(stage: str) -> str:
    """Return a stage's name in the chosen language; unknown stages keep theirs."""
    words = STAGES.get(stage)
    return str(words) if words else stage


class Progress:
    """A context manager that is also the ``progress(stage, done, total)`` callable of the library.

    ``done`` and ``total`` count whatever the stage counts (rows, bytes, days); ``total`` may be
    None.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._rich: RichProgress | None = None
        self._tasks: dict[str, Any] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Start the bar, if standard error is a terminal."""
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeElapsedColumn as Elapsed

            self._rich = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                Elapsed(),
                console=Console(stderr=True),
                transient=True,
            )
            self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away, whatever happened."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Say that ``done`` of ``total`` of a stage is done."""
        if self._quiet:
            return
        if self._rich is not None:
            task = self._tasks.get(stage)
            if task is None:
                task = self._tasks[stage] = self._rich.add_task(stage_name(stage), total=total)
            self._rich.update(task, completed=done, total=total)
            return
        if total == 1:  # a stage that is not counted: named once
            if done == 0:
                click.echo(stage_name(stage), err=True)
            return
        now = time.monotonic()
        finished = total is not None and done >= total
        started = stage not in self._last
        if started or finished or now - self._last[stage] >= LINE_EVERY:
            self._last[stage] = now
            of = f" / {total:,}" if total is not None else ""
            click.echo(f"{stage_name(stage)}: {done:,}{of}", err=True)

    def note(self, text: str) -> None:
        """Say one line without breaking the bar."""
        if self._quiet:
            return
        if self._rich is not None:
            self._rich.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)


def note_if_cold(progress: Progress) -> None:
    """Tell the user what the first run waits for, if kernels are not compiled yet."""
    from trace_engine.core.kernel import is_warm

    if not is_warm():
        progress.note(
            say(
                "首次运行：编译计算内核（一分钟以内，仅一次；可先运行 trace-engine warmup）……",
                "first run: compiling kernels (up to a minute, once; "
                "trace-engine warmup does it ahead) ...",
            )
        )

"""``trace-engine score``: from a dump to findings, a ranking, a plan and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trace_engine.cli.bilingual import Text, command, common, language, option
from trace_engine.cli.errors import DONE, SOME_REJECTED
from trace_engine.cli.progress import Progress, note_if_cold
from trace_engine.cli.settings import (
    FORMATS,
    Memory,
    budget_option,
    force_option,
    policy_option,
    processors,
    registry_option,
    seed_option,
)


@command(
    about=Text(
        "对追溯数据评分，写出线索、企业排名、抽检计划和报告。\n\n"
        "INPUT 为 Parquet、CSV 或 NDJSON 文件、文件夹或通配符（可为 gzip/zstd 压缩，"
        "UTF-8 或 GB18030，中英文表头均可）。\n\n"
        "返回 0：全部完成；1：完成，但有行被拒收；2：参数或输入不可用。",
        "Score traceability data: findings, a ranking of sellers, a sampling plan, a report.\n\n"
        "INPUT is a Parquet, CSV or NDJSON file, a folder or a glob (gzip or zstd, UTF-8 or "
        "GB18030, English or Chinese headers).\n\n"
        "Exit 0: done; 1: done, but some rows were rejected; 2: unusable arguments or input.",
    )
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    about=Text("结果文件夹。", "Output folder."),
)
@option(
    "--state",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    about=Text("另存引擎状态，供 trace 使用。", "Save the engine's state too, for trace."),
)
@registry_option
@policy_option
@option(
    "--format",
    "input_format",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    about=Text("输入格式。", "Format of the input."),
)
@option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=None,
    about=Text("线程数（默认：可用处理器数）。", "Threads (default: the processors available)."),
)
@option(
    "--memory",
    type=Memory(),
    default="8G",
    show_default=True,
    about=Text("内存上限，超出部分经磁盘处理。", "Memory to use; more goes through the disk."),
)
@budget_option
@seed_option
@force_option
@option("--quiet", "-q", is_flag=True, about=Text("不显示进度。", "No progress."))
@common
def score(inputs: tuple[str, ...], out: Path, quiet: bool, debug: bool, **options: Any) -> int:  # noqa: ARG001
    """Run the engine, write the folder, print a summary."""
    from trace_engine.cli.show import summary

    result = run_score(list(inputs), out, quiet=quiet, **options)
    summary(result, str(out))
    return SOME_REJECTED if result.counts["rejects"] else DONE


def run_score(
    inputs: list[str],
    out: Path,
    *,
    registry: Path | None = None,
    policy: str | None = None,
    input_format: str = "auto",
    workers: int | None = None,
    memory: int = 8 << 30,
    budget: int = 100,
    seed: int = 0,
    force: bool = False,
    quiet: bool = False,
    lang: str | None = None,
    state: Path | None = None,
) -> Any:
    """Score ``inputs`` into the folder ``out`` and return the result.

    The folder is checked first, so that nobody waits for a run whose output has no place to go.
    The report is Chinese unless ``lang`` is ``"en"``.
    """
    import time

    from trace_engine.reports import output

    output.check_folder(out, force=force)
    if state is not None:
        from trace_engine.store.checkpoint import check_state_folder

        check_state_folder(state)
    with Progress(quiet=quiet) as progress:
        note_if_cold(progress)
        from trace_engine.scoring import score as score_events

        result = score_events(
            inputs,
            registry=None if registry is None else str(registry),
            policy=policy,
            format=input_format,
            threads=workers or processors(),
            memory=memory,
            progress=progress,
            lang=lang or "zh",
            state=state,
        )
        seconds = result.seconds_by_stage
        for stage, compute in (("rank", "sellers"), ("hash", "inputs")):
            start = time.monotonic()
            progress(stage, 0, 1)
            getattr(result, compute)  # computed when first asked for
            progress(stage, 1, 1)
            seconds[stage] = time.monotonic() - start
        start = time.monotonic()
        progress("write", 0, 1)
        output.write(
            result,
            out,
            lang or "zh",
            force=force,
            budget=budget,
            seed=seed,
            run={
                "format": input_format,
                "registry": None if registry is None else str(registry.resolve()),
                "policy": policy,
                "workers": workers or processors(),
                "terminal_language": language(),
            },
        )
        progress("write", 1, 1)
        seconds["write"] = time.monotonic() - start
    return result

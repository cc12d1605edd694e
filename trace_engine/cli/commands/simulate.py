"""``trace-engine simulate``: a synthetic market with planted schemes and their truth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from trace_engine.cli.bilingual import Text, command, common, option, say
from trace_engine.cli.progress import Progress

LEAST_EVENTS = 5_000
MOST_EVENTS = 2_000_000_000


MARKET_FOLDERS = ("events", "registry", "truth")


def clear_market(folder: Path) -> None:
    """Remove an earlier market from ``folder``; anything that is none is left alone."""
    import shutil

    if all((folder / name).is_dir() for name in MARKET_FOLDERS):
        for name in MARKET_FOLDERS:
            shutil.rmtree(folder / name)


def counter(progress: Progress, total: int) -> Callable[[int], None]:
    """Return what the simulator calls with the number of further rows written."""
    done = 0

    def more(rows: int) -> None:
        nonlocal done
        done += rows
        progress("simulate", min(done, total), total)

    return more


@command(
    about=Text(
        "生成模拟追溯数据：OUT/events（事件）、OUT/registry（登记数据）、OUT/truth（真值）。\n\n"
        "同样的事件数和种子得到同样的数据。",
        "Make a synthetic market: OUT/events, OUT/registry and OUT/truth (what was planted).\n\n"
        "The same number of events and seed give the same data.",
    )
)
@option(
    "--events",
    type=click.IntRange(LEAST_EVENTS, MOST_EVENTS),
    default=1_000_000,
    show_default=True,
    about=Text("事件数（约）。", "Number of events (about)."),
)
@option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    about=Text("随机种子。", "Random seed."),
)
@option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    about=Text("写入的文件夹。", "Folder to write to."),
)
@option(
    "--start",
    metavar="YYYY-MM-DD",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2026-01-01",
    show_default=True,
    about=Text("第一天。", "First day."),
)
@option(
    "--days",
    type=click.IntRange(150, 3660),
    default=180,
    show_default=True,
    about=Text("天数。", "Length in days."),
)
@option(
    "--format",
    "output_format",
    type=click.Choice(("parquet", "csv", "ndjson")),
    default="parquet",
    show_default=True,
    about=Text("事件文件的格式。", "Format of the event files."),
)
@option(
    "--force", is_flag=True, about=Text("允许写入非空文件夹。", "Allow a folder that holds files.")
)
@common
def simulate(
    events: int,
    seed: int,
    out: Path,
    start: datetime,
    days: int,
    output_format: str,
    force: bool,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Write the market and say where it is."""
    import time

    from trace_engine.cli.errors import refuse_occupied
    from trace_engine.simulate import simulate as make

    refuse_occupied(out, force=force)
    began = time.monotonic()
    if force:
        clear_market(out)
    with Progress() as progress:
        make(
            events,
            seed,
            out,
            start=f"{start:%Y-%m-%d}",
            days=days,
            format=output_format,
            progress=counter(progress, events),
        )
    seconds = time.monotonic() - began
    click.echo(
        say(
            f"已生成（{seconds:.1f} 秒）：{out}/events、{out}/registry、{out}/truth",
            f"made in {seconds:.1f} s: {out}/events, {out}/registry, {out}/truth",
        )
    )
    click.echo(
        say("下一步：", "next: ")
        + f"trace-engine score {out}/events --registry {out}/registry --out {out}-output"
    )
    return 0

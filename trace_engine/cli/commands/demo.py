"""``trace-engine demo``: the whole way once, on a synthetic market."""

from __future__ import annotations

from pathlib import Path

import click

from trace_engine.cli.bilingual import Text, command, common, language, option, say
from trace_engine.cli.commands.simulate import (
    LEAST_EVENTS,
    MOST_EVENTS,
    clear_market,
    counter,
)
from trace_engine.cli.progress import Progress
from trace_engine.cli.settings import force_option


@command(
    about=Text(
        "一条命令看全流程：生成模拟市场、评分、排名、抽检计划、与真值对照。",
        "See it all at once: make a market, score it, rank, plan, compare with the truth.",
    )
)
@option(
    "--events",
    type=click.IntRange(LEAST_EVENTS, MOST_EVENTS),
    default=200_000,
    show_default=True,
    about=Text("模拟事件数（约）。", "Events to simulate (about)."),
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
    default=Path("demo-output"),
    show_default=True,
    metavar="DIR",
    about=Text("写入的文件夹。", "Folder to write to."),
)
@force_option
@common
def demo(
    events: int,
    seed: int,
    out: Path,
    force: bool,
    lang: str | None,
    debug: bool,  # noqa: ARG001
) -> int:
    """Simulate into ``OUT/market``, score into ``OUT``, and say where to look."""
    from trace_engine.cli.commands.score import run_score
    from trace_engine.cli.errors import refuse_occupied
    from trace_engine.cli.show import summary
    from trace_engine.ranking import evaluate, format_report
    from trace_engine.simulate import simulate

    market = out / "market"
    # An earlier demo may be written over: the same names come again.
    refuse_occupied(out, force=force or (market.is_dir() and (out / "manifest.json").is_file()))
    click.echo(say(f"1. 生成约 {events:,} 个事件：{market}", f"1. simulate {events:,} events"))
    clear_market(market)
    with Progress() as progress:
        simulate(events, seed, market, progress=counter(progress, events))
    click.echo(say(f"2. 评分、排名、抽检计划：{out}", f"2. score, rank and plan: {out}"))
    result = run_score(
        [str(market / "events")],
        out,
        registry=market / "registry",
        seed=seed,
        lang=lang,
        force=True,  # the folder was looked at above, and now holds the market
    )
    summary(result, str(out))
    click.echo(say("\n3. 与真值对照", "\n3. compare with the truth"))
    report = evaluate(
        result.findings, result.sellers, market / "truth", events=result.counts["events"]
    )
    click.echo(format_report(report, language()))
    top = result.sellers.column("enterprise_id")[0].as_py() if result.sellers.num_rows else "ID"
    click.echo(
        say(
            f"\n接下来：\n  浏览器打开 {out}/report.html\n"
            f"  trace-engine explain {out} --seller {top}\n"
            f"  trace-engine plan {out} --budget 50",
            f"\nnext:\n  open {out}/report.html in a browser\n"
            f"  trace-engine explain {out} --seller {top}\n"
            f"  trace-engine plan {out} --budget 50",
        )
    )
    return 0

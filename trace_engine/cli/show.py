"""Tables and numbers on the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from trace_engine.cli.bilingual import language, say
from trace_engine.cli.progress import stage_name

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

LEAST_WIDTH = 100  # columns, where standard output is no terminal


def console() -> Console:
    """Return a console on standard output; plain and wide enough where it is no terminal."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((LEAST_WIDTH, 24)).columns if terminal else LEAST_WIDTH
    return Console(file=sys.stdout, width=max(width, 60), highlight=False, markup=False)


def plain(value: Any) -> str:
    """Return a value as text without control characters: data must not steer the terminal."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "".join(c if c.isprintable() else " " for c in str(value))


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", numbers: int = 0
) -> None:
    """Print a table. The last ``numbers`` columns are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=Text(title) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    first_number = len(headers) - numbers
    for i, header in enumerate(headers):
        drawn.add_column(Text(header), justify="right" if i >= first_number else "left")
    for row in rows:
        drawn.add_row(*(Text(plain(value)) for value in row))
    console().print(drawn)


def pairs(rows: Iterable[tuple[str, Any]], *, title: str = "") -> None:
    """Print names and values in two columns."""
    from rich.table import Table
    from rich.text import Text

    if title:
        click.echo(title)
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in rows:
        drawn.add_row(Text("  " + name), Text(plain(value)))
    console().print(drawn)


def ranking(sellers: pa.Table, top: int, *, title: str) -> None:
    """Print the first ``top`` sellers with their reasons."""
    headers = (
        ("#", "企业", "等级", "得分", "主要理由")
        if language() == "zh"
        else ("#", "seller", "tier", "score", "main reasons")
    )
    rows = []
    for row in sellers.slice(0, top).to_pylist():
        name = row["name"] or ""
        who = f"{name}\n{row['enterprise_id']}" if name else row["enterprise_id"]
        why = (row[f"reasons_{language()}"] or "").replace("；", "\n").replace("; ", "\n")
        rows.append((row["rank"], lines(who), row["tier"], f"{row['score']:.3f}", lines(why)))
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for header, justify in zip(headers, ("right", "left", "left", "right", "left"), strict=True):
        drawn.add_column(Text(header), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for cells in rows:
        drawn.add_row(*(Text(str(value)) for value in cells))
    console().print(drawn)


def lines(text: str) -> str:
    """Return ``text`` with its line breaks kept and other control characters replaced."""
    return "\n".join(plain(line) for line in text.split("\n"))


SHOWN_PROBLEMS = 3


def _registry_problems(registry: Any) -> None:
    """Print how many rows of the registry are wrong, and the first few."""
    problems = registry.problems if registry is not None else []
    if not problems:
        return
    number = len(problems)
    click.echo(
        say(
            f"  登记数据有 {number:,} 处有误或可疑：",
            f"  {number:,} entries of the registry are wrong or doubtful:",
        )
    )
    for problem in problems[:SHOWN_PROBLEMS]:
        click.echo("    " + plain(say(problem.zh, str(problem))))
    if number > SHOWN_PROBLEMS:
        click.echo(say("    ……（更多见 manifest.json）", "    ... (more in manifest.json)"))


def summary(result: Any, folder: str) -> None:
    """Print what a run did: rows, findings, first sellers, seconds, and where the files are."""
    from collections import Counter

    counts: Mapping[str, int] = result.counts
    words = (
        ("读入行数", "有效事件", "重复", "拒收")
        if language() == "zh"
        else ("rows read", "events", "duplicates", "rejected")
    )
    names = ("rows", "events", "duplicates", "rejects")
    families = Counter(result.findings.column("family").to_pylist())
    seconds = result.seconds_by_stage
    stages = "  ".join(f"{stage_name(k)} {v:.1f}" for k, v in seconds.items() if v >= 0.05)

    def told(count: int) -> str:
        """Return a number of findings with the alert load it means."""
        load = 10_000 * count / max(counts["events"], 1)
        return say(
            f"{count:,}（每万条事件 {load:.2f} 条）", f"{count:,} ({load:.2f} per 10 000 events)"
        )

    rows: list[tuple[str, Any]] = [
        (word, counts[name]) for word, name in zip(words, names, strict=True)
    ]
    rows += [
        (say("疑似违规线索", "suspected violations"), told(families["suspected_violation"])),
        (say("数据质量问题", "data-quality findings"), told(families["data_quality"])),
        (say("耗时（秒）", "seconds"), f"{sum(seconds.values()):.1f}   {stages}"),
    ]
    pairs(rows)
    unjudged = [k for k, v in result.coverage.items() if not v.get("judged")]
    if unjudged:
        click.echo(
            say("  未评估的规则（见 coverage.json）：", "  not evaluated (see coverage.json): ")
            + ", ".join(unjudged)
        )
    _registry_problems(result.registry)
    if result.sellers.num_rows:
        ranking(result.sellers, 5, title=say("得分最高的企业", "highest scores"))
    click.echo(say(f"结果：{folder}/（先看 report.html）", f"output: {folder}/ (open report.html)"))
    if counts["rejects"]:
        click.echo(
            say(
                f"有 {counts['rejects']:,} 行被拒收，原因见 {folder}/rejects.parquet",
                f"{counts['rejects']:,} rows were rejected: see {folder}/rejects.parquet",
            ),
            err=True,
        )

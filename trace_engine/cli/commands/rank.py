"""``trace-engine rank``: the ranking in an output folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trace_engine.cli.bilingual import Text, command, common, option, say
from trace_engine.cli.settings import folder_argument


@command(
    about=Text(
        "显示结果文件夹中的企业排名及理由。\n\nDIR 为 score 写出的文件夹。",
        "Show the ranking of sellers in an output folder, and why.\n\n"
        "DIR is a folder written by score.",
    )
)
@folder_argument
@option(
    "--top",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    about=Text("显示前几名。", "How many to show."),
)
@option(
    "--tier",
    type=click.Choice(("A", "B", "C", "D")),
    default=None,
    about=Text("只看这一等级（D 风险最高）。", "Only this tier (D is the highest risk)."),
)
@option("--json", "as_json", is_flag=True, about=Text("输出 JSON。", "Print JSON."))
@common
def rank(
    folder: Path,
    top: int,
    tier: str | None,
    as_json: bool,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Print the first sellers."""
    import pyarrow.compute as pc

    from trace_engine.cli.folder import read_table
    from trace_engine.cli.show import ranking

    sellers = read_table(folder, "sellers.parquet")
    total = sellers.num_rows
    if tier is not None:
        sellers = sellers.filter(pc.equal(sellers.column("tier"), tier))
    if as_json:
        import msgspec

        data = msgspec.json.format(msgspec.json.encode(sellers.slice(0, top).to_pylist()), indent=2)
        sys.stdout.write(data.decode() + "\n")
        return 0
    shown = min(top, sellers.num_rows)
    title = say(f"前 {shown} 家，共 {total:,} 家", f"first {shown} of {total:,} sellers")
    ranking(sellers, top, title=title)
    return 0

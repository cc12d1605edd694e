"""``trace-engine evaluate``: findings and ranking against the truth of a simulated market."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trace_engine.cli.bilingual import Text, command, common, language, option
from trace_engine.cli.settings import folder_argument


@command(
    about=Text(
        "与真值对照：各规则召回、误报、良性情形误中、排名精度。\n\n"
        "DIR 为 score 写出的文件夹；--truth 为 simulate 写出的 truth 文件夹。",
        "Compare with the truth: recall by detector, false alarms, look-alikes hit, precision of "
        "the ranking.\n\nDIR is a folder written by score; --truth the folder truth that simulate "
        "wrote.",
    )
)
@folder_argument
@option(
    "--truth",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    about=Text("真值文件夹。", "Folder of the truth."),
)
@option("--json", "as_json", is_flag=True, about=Text("输出 JSON。", "Print JSON."))
@common
def evaluate(
    folder: Path,
    truth: Path,
    as_json: bool,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Print the comparison."""
    import msgspec

    from trace_engine.cli.folder import read_table
    from trace_engine.ranking import evaluate as compare
    from trace_engine.ranking import format_report
    from trace_engine.reports import manifest

    record = manifest.read(folder)
    report = compare(
        read_table(folder, "findings.parquet"),
        read_table(folder, "sellers.parquet"),
        truth,
        events=int(record["head"]["counts"]["events"]),
    )
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        click.echo(format_report(report, language()))
    return 0

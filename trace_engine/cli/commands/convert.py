"""``trace-engine convert``: any input to the canonical event table."""

from __future__ import annotations

from pathlib import Path

import click

from trace_engine.cli.bilingual import Text, command, common, option, say
from trace_engine.cli.errors import DONE, SOME_REJECTED, UserError
from trace_engine.cli.progress import Progress
from trace_engine.cli.settings import FORMATS


@command(
    about=Text(
        "把任意输入转成标准事件表（列名、类型见 docs/events.md）。\n\n"
        "输出格式按扩展名：.parquet、.csv、.ndjson。拒收的行写入 FILE.rejects.parquet，返回 1。"
        "重复行保留：去重在评分时进行。",
        "Turn any input into the canonical event table.\n\n"
        "The output's format follows its extension: .parquet, .csv, .ndjson. Rejected rows go to "
        "FILE.rejects.parquet, and the exit code is 1. Repeated rows are kept: score takes them "
        "out.",
    )
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    about=Text("写入的文件。", "File to write."),
)
@option(
    "--format",
    "input_format",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    about=Text("输入格式。", "Format of the input."),
)
@option("--force", is_flag=True, about=Text("覆盖已有文件。", "Replace an existing file."))
@common
def convert(
    inputs: tuple[str, ...],
    out: Path,
    input_format: str,
    force: bool,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Read, convert and write batch by batch."""
    import pyarrow as pa

    from trace_engine.cli.canonical import WRITERS, Converter, open_writer, tables
    from trace_engine.readers import open_events
    from trace_engine.reports.tables import write_parquet

    if out.suffix.lower() not in WRITERS:
        open_writer(out)  # says what was expected
    if out.exists() and not force:
        raise UserError(
            say(f"{out}：文件已存在，加 --force 覆盖", f"{out}: exists; add --force to replace it")
        )
    source = open_events(list(inputs), format=input_format)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    converter, written = Converter(), 0
    try:
        writer = open_writer(partial)
        try:
            with Progress() as progress:
                for table in tables(source, converter):
                    writer.write_table(table)
                    written += table.num_rows
                    progress("convert", written, None)
        finally:
            writer.close()
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    rejects = pa.concat_tables([*converter.rejects, source.rejects])
    click.echo(
        say(f"已写入 {written:,} 行：{out}", f"{written:,} rows written: {out}"),
    )
    if not rejects.num_rows:
        return DONE
    where = out.with_name(f"{out.name}.rejects.parquet")
    write_parquet(rejects, where)
    click.echo(
        say(
            f"有 {rejects.num_rows:,} 行被拒收，原因见 {where}",
            f"{rejects.num_rows:,} rows were rejected: see {where}",
        ),
        err=True,
    )
    return SOME_REJECTED

"""``trace-engine verify``: whether an output folder is as it was written."""

from __future__ import annotations

from pathlib import Path

import click

from trace_engine.cli.bilingual import Text, command, common, say
from trace_engine.cli.errors import DONE, SOME_REJECTED


@command(
    about=Text(
        "核对结果文件夹：文件哈希、哈希链、行数守恒。一致返回 0，有差异返回 1。\n\n"
        "DIR 为 score 写出的文件夹。",
        "Check an output folder: file hashes, the hash chain, conservation of rows. "
        "Exit 0 if all agree, 1 if anything differs.\n\nDIR is a folder written by score.",
    )
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@common
def verify(folder: Path, lang: str | None, debug: bool) -> int:  # noqa: ARG001
    """Print every difference between the folder and its manifest."""
    from trace_engine.reports import manifest

    differences = manifest.verify(folder)
    for difference in differences:
        text = say(difference.zh, difference.en)
        click.echo(f"{difference.name}: {text}", err=True)
    if differences:
        click.echo(
            say(f"有 {len(differences)} 处差异", f"{len(differences)} differences"), err=True
        )
        return SOME_REJECTED
    record = manifest.read(folder)
    last = record["outputs"][-1]["chain"] if record["outputs"] else record["head_hash"]
    click.echo(
        say(
            f"一致：{len(record['outputs'])} 个文件，链尾 {last}",
            f"unchanged: {len(record['outputs'])} files, end of chain {last}",
        )
    )
    return DONE

"""``trace-engine trace``: where a code, a batch or an enterprise's goods went and came from."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trace_engine.cli.bilingual import Text, command, common, language, option, say
from trace_engine.cli.errors import UserError
from trace_engine.cli.settings import policy_option, registry_option

if TYPE_CHECKING:
    from trace_engine.engine import Engine

FORMATS = ("text", "json", "csv", "mermaid")
DIRECTIONS = ("forward", "backward", "both")
_DAY = 86_400_000_000  # µs


class Day(click.ParamType[dt.date]):
    """A date ``YYYY-MM-DD``."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a date."""
        if isinstance(value, dt.date):
            return value
        try:
            return dt.date.fromisoformat(str(value))
        except ValueError:
            expected = say("应如 2026-03-01", "expected like 2026-03-01")
            return self.fail(say(f"读到 {value!r}，{expected}", f"found {value!r}, {expected}"))


@command(
    about=Text(
        "追溯一个码、一批药或一家企业：去了哪里、现在谁手里、从哪里来。\n\n"
        "SOURCE 为 score --state 保存的状态文件夹，或 score 的结果文件夹"
        "（此时重读清单所列的输入文件）。\n\n"
        "--from、--to 限定期间（含首尾两天）；批次的现状以期末为准。",
        "Trace a code, a batch or an enterprise: where it went, who holds it, where it came from.\n\n"
        "SOURCE is a folder saved by score --state, or an output folder of score (the input files "
        "its manifest names are then read again).\n\n"
        "--from and --to bound the period, both days included; a batch stands where it was at its "
        "end.",
    )
)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@option("--code", metavar="CODE", default=None, about=Text("追溯码。", "A trace code."))
@option("--batch", metavar="NO", default=None, about=Text("批号。", "A batch number."))
@option("--enterprise", metavar="ID", default=None, about=Text("企业标识。", "An enterprise's id."))
@option("--drug", metavar="ID", default=None, about=Text("只看这个药品。", "Of this drug only."))
@option(
    "--direction",
    type=click.Choice(DIRECTIONS),
    default="both",
    show_default=True,
    about=Text("正向（去向）、反向（来源）或双向。", "Where to, where from, or both."),
)
@option("--from", "begin", type=Day(), default=None, about=Text("期间首日。", "First day."))
@option("--to", "end", type=Day(), default=None, about=Text("期间末日。", "Last day."))
@option(
    "--format",
    "output",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    about=Text("输出格式。", "How to print it."),
)
@registry_option
@policy_option
@common
def trace(
    source: Path,
    code: str | None,
    batch: str | None,
    enterprise: str | None,
    drug: str | None,
    direction: str,
    begin: dt.date | None,
    end: dt.date | None,
    output: str,
    registry: Path | None,
    policy: str | None,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Print the trace of the one thing asked for."""
    _check(code, batch, enterprise, drug, begin, end, output)
    from trace_engine.cli.traced import opened

    since = None if begin is None else _micros(begin)
    until = None if end is None else _micros(end) + _DAY - 1
    with opened(source, registry, policy) as engine:
        document = _document(engine, code, batch, enterprise, drug, direction, since, until)
    _print(document, output)
    return 0


def _check(
    code: str | None,
    batch: str | None,
    enterprise: str | None,
    drug: str | None,
    begin: dt.date | None,
    end: dt.date | None,
    output: str,
) -> None:
    """Refuse what cannot be asked before anything is read."""
    if sum(value is not None for value in (code, batch, enterprise)) != 1:
        raise UserError(
            say(
                "请给出 --code、--batch、--enterprise 之一",
                "give exactly one of --code, --batch, --enterprise",
            )
        )
    if code is not None and (drug is not None or begin is not None or end is not None):
        raise UserError(
            say(
                "--code 不能与 --drug、--from、--to 同用",
                "--code goes without --drug, --from and --to",
            )
        )
    if code is not None and output == "mermaid":
        raise UserError(
            say("--format mermaid 不适用于 --code", "--format mermaid is not for --code")
        )
    if begin is not None and end is not None and end < begin:
        raise UserError(
            say(f"--to {end} 早于 --from {begin}", f"--to {end} is before --from {begin}")
        )


def _micros(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * _DAY


def _document(
    engine: Engine,
    code: str | None,
    batch: str | None,
    enterprise: str | None,
    drug: str | None,
    direction: str,
    since: int | None,
    until: int | None,
) -> dict[str, Any]:
    from trace_engine.reports.tracing import batch_document, code_document, enterprise_document
    from trace_engine.tracing import Tracer

    tracer = Tracer(engine)
    if code is not None:
        return code_document(tracer.code(code), engine, direction)
    if batch is not None:
        return batch_document(tracer.batch(batch, drug, since, until), engine, direction)
    found = tracer.enterprise(str(enterprise), drug, since, until)
    return enterprise_document(found, engine, direction)


def _print(document: dict[str, Any], output: str) -> None:
    from trace_engine.reports import traced

    if output == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=1).decode())
    elif output == "csv":
        from trace_engine.reports.tables import csv_bytes

        sys.stdout.flush()
        click.echo(csv_bytes(traced.rows(document)), nl=False)
    elif output == "mermaid":
        click.echo(traced.mermaid(document), nl=False)
    else:
        from trace_engine.cli.show import lines

        click.echo("\n".join(lines(line) for line in traced.text(document, language())))

"""``trace-engine explain``: a finding, a seller or a code, told in words and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trace_engine.cli.bilingual import Text, command, common, language, option, say
from trace_engine.cli.errors import UserError
from trace_engine.cli.settings import folder_argument

if TYPE_CHECKING:
    import pyarrow as pa


@command(
    about=Text(
        "解释结果文件夹中的一条线索、一家企业或一个追溯码，并画出流转路径。\n\n"
        "DIR 为 score 写出的文件夹。--code 在线索中没有完整路径时，重新查找清单所列的输入文件。",
        "Explain a finding, a seller or a code of an output folder, and draw the path.\n\n"
        "DIR is a folder written by score. --code looks into the input files that the manifest "
        "names, if they are still there.",
    )
)
@folder_argument
@option("--finding", metavar="ID", default=None, about=Text("线索编号。", "Id of a finding."))
@option("--seller", metavar="ID", default=None, about=Text("企业标识。", "Id of an enterprise."))
@option("--code", metavar="CODE", default=None, about=Text("追溯码。", "A trace code."))
@common
def explain(
    folder: Path,
    finding: str | None,
    seller: str | None,
    code: str | None,
    lang: str | None,  # noqa: ARG001
    debug: bool,  # noqa: ARG001
) -> int:
    """Print the explanation of the one thing asked for."""
    from trace_engine.cli.folder import read_table
    from trace_engine.cli.show import lines

    if sum(value is not None for value in (finding, seller, code)) != 1:
        raise UserError(
            say(
                "请给出 --finding、--seller、--code 之一",
                "give exactly one of --finding, --seller, --code",
            )
        )
    findings = read_table(folder, "findings.parquet")
    if finding is not None:
        text = _finding(findings, finding)
    elif seller is not None:
        text = _seller(read_table(folder, "sellers.parquet"), findings, seller)
    else:
        text = _code(folder, findings, str(code))
    click.echo("\n".join(lines(line) for line in text))
    return 0


def _only(table: pa.Table, column: str, value: str) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.equal(table.column(column), value))


def _nothing(zh: str, en: str, value: str) -> UserError:
    return UserError(say(f"没有{zh} {value}", f"no {en} {value} in this folder"))


def _finding(findings: pa.Table, value: str) -> list[str]:
    from trace_engine.reports.explain import finding_text

    found = _only(findings, "finding_id", value)
    if not found.num_rows:
        raise _nothing("线索", "finding", value)
    return finding_text(found.slice(0, 1).to_pylist()[0], language())


def _seller(sellers: pa.Table, findings: pa.Table, value: str) -> list[str]:
    from trace_engine.reports.explain import seller_text

    found = _only(sellers, "enterprise_id", value)
    if not found.num_rows:
        raise _nothing("企业", "seller", value)
    row = found.slice(0, 1).to_pylist()[0]
    return seller_text(row, _only(findings, "subject_id", value), language())


def _code(folder: Path, findings: pa.Table, value: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from trace_engine.events.codes import parse_code
    from trace_engine.reports.cases import parse_evidence, path_of
    from trace_engine.reports.explain import code_text

    # With or without brackets and separators, it is one code.
    value = parse_code(value).identity or value
    lists = findings.column("codes").combine_chunks()
    rows = pc.list_parent_indices(lists).filter(pc.equal(pc.list_flatten(lists), value))
    named = pc.or_kleene(
        pc.is_in(pa.array(range(findings.num_rows), pa.int64()), value_set=rows.cast(pa.int64())),
        pc.fill_null(pc.equal(findings.column("code"), value), False),
    )
    found = findings.filter(named)
    drawn: list[Any] = [
        path_of(parse_evidence(row["evidence"]))
        for row in found.select(["code", "evidence"]).to_pylist()
        if row["code"] == value
    ]
    path: list[Any] = max(drawn, key=len, default=[])
    from trace_engine.cli.scan import events_of_code

    scanned = events_of_code(folder, value)
    if scanned is not None and len(scanned) >= len(path):
        path = scanned
    if not path and not found.num_rows:
        raise _nothing("追溯码", "trace code", value)
    return code_text(value, path, found, language())

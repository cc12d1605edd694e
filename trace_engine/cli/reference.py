"""The printed help of every command, for ``docs/cli.md``.

``python -m trace_engine.cli.reference docs/cli.md`` writes it into the page, between the markers
``<!-- help: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

from trace_engine.cli.root import COMMANDS, group

WIDTH = 80  # columns
_BLOCK = re.compile(r"(<!-- help: ([\w-]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def help_page(command: str = "", lang: str = "en") -> str:
    """Return what ``trace-engine COMMAND --help`` prints, 80 columns wide."""
    words = [command] if command else []
    out = io.StringIO()
    with redirect_stdout(out):
        group.main(
            [*words, "--help", "--lang", lang],
            prog_name="trace-engine",
            standalone_mode=False,
            terminal_width=WIDTH,
        )
    return out.getvalue().rstrip()


def filled(page: str) -> str:
    """Return the text of a page with the help in its blocks renewed."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}```text\n{help_page(match[2])}\n```\n{match[3]}"

    return _BLOCK.sub(block, page)


def commands_in(page: str) -> list[str]:
    """Return the commands whose help a page holds, in its order; ``""`` is the group's own."""
    return [match[2] for match in _BLOCK.finditer(page)]


def main() -> None:
    """Renew the page named on the command line."""
    path = Path(sys.argv[1])
    page = path.read_text("utf-8")
    path.write_text(filled(page), "utf-8")
    missing = sorted({"", *COMMANDS} - set(commands_in(page)))
    if missing:
        sys.exit(f"{path}: no block for {missing}")


if __name__ == "__main__":
    main()

"""``trace-engine version``."""

from __future__ import annotations

import click

from trace_engine.cli.bilingual import Text, command, common, option


@command(about=Text("显示版本。", "Show the version."))
@option(
    "--verbose",
    "-v",
    is_flag=True,
    about=Text("同时显示所用库的版本。", "Show the versions of libraries too."),
)
@common
def version(verbose: bool, lang: str | None, debug: bool) -> int:  # noqa: ARG001
    """Print the version."""
    from trace_engine import __version__

    click.echo(f"trace-engine {__version__}")
    if verbose:
        import platform
        from importlib.metadata import version as version_of

        click.echo(f"python {platform.python_version()} ({platform.machine()})")
        for name in ("numpy", "numba", "pyarrow", "networkx"):
            click.echo(f"{name} {version_of(name)}")
    return 0

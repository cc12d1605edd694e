"""report.html: one page that opens without a network, without scripts, and prints."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from trace_engine.reports.view import Scored, report

if TYPE_CHECKING:
    from jinja2 import Template

LANGUAGES = ("zh", "en")


def _number(value: int) -> str:
    return f"{value:,}"


@lru_cache(maxsize=1)
def _template() -> tuple[Template, str]:
    """Return the compiled template and its style sheet."""
    from jinja2 import Environment, StrictUndefined

    folder = files("trace_engine.reports") / "templates"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters["number"] = _number
    source = (folder / "report.html.j2").read_text("utf-8")
    return environment.from_string(source), (folder / "report.css").read_text("utf-8")


def render(result: Scored, lang: str = "zh", policy_version: str = "") -> str:
    """Return the page. Everything that comes from data is escaped.

    In Chinese, key terms stand beside their English ones; in English, all text is English.
    """
    if lang not in LANGUAGES:
        raise ValueError(f"lang: {lang!r} is neither 'zh' nor 'en'")
    from markupsafe import Markup

    template, css = _template()
    return template.render(
        lang=lang,
        css=Markup(css),  # noqa: S704 (our own file; no data in it)
        r=report(result, lang, policy_version),
    )

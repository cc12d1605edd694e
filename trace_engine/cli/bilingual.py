"""Chinese or English on the command line: language choice and click classes with two help texts.

Terminal text follows ``--lang``, else ``TRACE_ENGINE_LANG``, else the locale (``LC_ALL``,
``LC_MESSAGES``, ``LANG``: ``zh...`` is Chinese, anything else English). The choice is made once
from the raw arguments, before click parses them, so that ``--help`` and usage errors follow it too.
Only click is imported here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

LANGUAGES = ("zh", "en")
# One process speaks one language, in all of its threads: a context variable would be unset in them.
_current = ["en"]


class Text(NamedTuple):
    """One message in both languages."""

    zh: str
    en: str

    def __str__(self) -> str:
        """Return the message in the language of the running command."""
        return self.zh if language() == "zh" else self.en


def language() -> str:
    """Return ``"zh"`` or ``"en"``: the language of the running command."""
    return _current[0]


def set_language(lang: str) -> None:
    """Make ``lang`` the language of the running command."""
    _current[0] = lang if lang in LANGUAGES else "en"


def say(zh: str, en: str) -> str:
    """Return the one of two texts that is in the language of the running command."""
    return zh if language() == "zh" else en


def language_of(args: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """Return the language that the raw arguments and the environment ask for."""
    for position, arg in enumerate(args):
        value = arg[7:] if arg.startswith("--lang=") else ""
        if arg == "--lang" and position + 1 < len(args):
            value = args[position + 1]
        if value in LANGUAGES:
            return value
    env = os.environ if environ is None else environ
    for name in ("TRACE_ENGINE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if env.get(name):
            return "zh" if env[name].lower().startswith("zh") else "en"
    return "en"


# click's own words, which would otherwise stay English in a Chinese help page.
_CLICK_WORDS = {
    "Options": "选项",
    "Commands": "命令",
}


class Formatter(click.HelpFormatter):
    """A help formatter that says click's own headings in the chosen language."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        super().write_usage(prog, args, prefix if prefix is not None else say("用法： ", "Usage: "))

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Write an indented section under a heading."""
        with super().section(_CLICK_WORDS.get(name, name) if language() == "zh" else name):
            yield


class Context(click.Context):
    """A context whose help pages are written by :class:`Formatter`."""

    formatter_class = Formatter


class Option(click.Option):
    """An option with its help in both languages."""

    def __init__(self, *args: Any, about: Text | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about = about

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's line of the help page in the chosen language."""
        if self.about is not None:
            self.help = str(self.about)
        record = super().get_help_record(ctx)
        if record is None or language() != "zh":
            return record
        name, text = record
        return name, text.replace("[default: ", "[默认：").replace("[required]", "[必填]")


class Command(click.Command):
    """A command with its help in both languages."""

    context_class = Context

    def __init__(self, *args: Any, about: Text | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about = about

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Choose the help text, then parse ``args``."""
        if self.about is not None:
            self.help = str(self.about)
        return super().make_context(info_name, args, parent, **extra)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return ``--help`` with its text in the chosen language."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = say("显示本页并退出。", "Show this page and exit.")
        return option


def command(about: Text, name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a :class:`Command` with help in both languages."""
    return click.command(name=name, cls=Command, about=about)


def option(*names: str, about: Text, **kwargs: Any) -> Callable[[Any], Any]:
    """Return a decorator that adds an :class:`Option` with help in both languages."""
    return click.option(*names, cls=Option, about=about, **kwargs)


lang_option = option(
    "--lang",
    type=click.Choice(LANGUAGES),
    default=None,
    about=Text("中文或英文（默认按系统语言）。", "Chinese or English (default: the locale's)."),
)

debug_option = option(
    "--debug",
    is_flag=True,
    about=Text("出错时显示完整调用栈。", "Show the whole traceback of an error."),
)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command has: ``--lang`` and ``--debug``."""
    decorated: Callable[..., Any] = lang_option(debug_option(function))
    return decorated

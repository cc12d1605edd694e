"""``trace-engine doctor``: whether everything is here that a run needs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import click

from trace_engine.cli.bilingual import Text, command, common, say
from trace_engine.cli.errors import DONE, UNUSABLE
from trace_engine.cli.settings import processors

LIBRARIES = ("numpy", "numba", "pyarrow", "msgspec", "networkx", "jinja2", "rich")
LEAST_DISK = 1 << 30
LEAST_MEMORY = 2 << 30


class Check(NamedTuple):
    """One line of the report. ``ok`` is None for what is worth knowing but stops nothing."""

    ok: bool | None
    name: str
    detail: str


def checks() -> Iterator[Check]:
    """Look at Python, libraries, memory, disk, kernels, policy, regions and detectors."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(sys.version_info >= (3, 11), "python", version)
    yield from _libraries()
    yield _memory()
    yield Check(True, say("处理器", "processors"), str(processors()))
    free = shutil.disk_usage(os.curdir).free
    detail = say(f"当前文件夹可用 {free / 2**30:.1f} GB", f"{free / 2**30:.1f} GB free here")
    yield Check(free >= LEAST_DISK or None, say("磁盘", "disk"), detail)
    yield _kernels()
    yield from _catalogue()


def _libraries() -> Iterator[Check]:
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    for name in LIBRARIES:
        try:
            import_module(name)
            yield Check(True, name, version_of(name))
        except (ImportError, PackageNotFoundError) as error:
            yield Check(False, name, str(error))


def _memory() -> Check:
    name = say("内存", "memory")
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Check(None, name, say("未知", "unknown"))
    return Check(total >= LEAST_MEMORY or None, name, f"{total / 2**30:.1f} GB")


def _kernels() -> Check:
    from trace_engine.core.kernel import is_warm
    from trace_engine.core.kernel_cache import cache_folder, is_writable

    name = say("计算内核", "kernels")
    if is_warm():
        folder = cache_folder()
        return Check(True, name, say(f"已编译：{folder}", f"compiled: {folder}"))
    if not is_writable():
        text = say(
            "没有可写的缓存文件夹，每次运行都要编译（设置 TRACE_ENGINE_CACHE_DIR）",
            "no writable cache folder: compiled in every run (set TRACE_ENGINE_CACHE_DIR)",
        )
        return Check(None, name, text)
    text = say("未编译，首次运行会等待（trace-engine warmup）", "not compiled yet: run warmup")
    return Check(None, name, text)


def _catalogue() -> Iterator[Check]:
    from trace_engine.detectors.registry import detector_classes
    from trace_engine.policy import Policy, PolicyError
    from trace_engine.registry.regions import load_regions

    found = detector_classes()
    yield Check(bool(found), say("检测规则", "detectors"), str(len(found)))
    try:
        policy = Policy.load()
        policy.check(found)
        yield Check(True, say("默认策略", "default policy"), policy.version)
    except PolicyError as error:
        yield Check(False, say("默认策略", "default policy"), str(error))
    yield Check(True, say("行政区划", "regions"), f"{len(load_regions()):,}")


@command(
    about=Text(
        "检查运行环境：库、内存、磁盘、计算内核、策略。正常返回 0，有不可用项返回 2。",
        "Check libraries, memory, disk, kernels and policy. Exit 0 if usable, 2 if not.",
    )
)
@common
def doctor(lang: str | None, debug: bool) -> int:  # noqa: ARG001
    """Print every check."""
    worst = DONE
    for check in checks():
        mark = "✓" if check.ok else "✗" if check.ok is False else "!"
        click.echo(f"{mark} {check.name}: {check.detail}")
        if check.ok is False:
            worst = UNUSABLE
    return worst

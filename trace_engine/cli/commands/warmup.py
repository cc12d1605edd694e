"""``trace-engine warmup``: compile the kernels before the first run needs them."""

from __future__ import annotations

import time

import click

from trace_engine.cli.bilingual import Text, command, common, say


@command(
    about=Text(
        "预先编译计算内核：在小规模模拟数据上完整运行一次。\n\n"
        "编译结果存于 TRACE_ENGINE_CACHE_DIR，或用户缓存文件夹。",
        "Compile the kernels ahead: one whole run over a small synthetic market.\n\n"
        "They are kept in TRACE_ENGINE_CACHE_DIR, else in the user's cache folder.",
    )
)
@common
def warmup(lang: str | None, debug: bool) -> int:  # noqa: ARG001
    """Score a small synthetic market and throw the result away."""
    from trace_engine.core.kernel import is_warm
    from trace_engine.core.kernel_cache import cache_folder
    from trace_engine.warmup import compile_kernels

    start = time.monotonic()
    compile_kernels()
    where = cache_folder() if is_warm() else say("仅内存", "memory only")
    seconds = time.monotonic() - start
    click.echo(
        say(f"内核已编译（{seconds:.1f} 秒）：{where}", f"kernels ready ({seconds:.1f} s): {where}")
    )
    return 0

"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from trace_engine.cli.bilingual import Text, option, say

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)I?B?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LEAST_MEMORY = 256 << 20
FORMATS = ("auto", "parquet", "csv", "tsv", "ndjson")  # of trace_engine.readers.formats


class Memory(click.ParamType[int]):
    """An amount of memory: ``8G``, ``512M``, or plain bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.match(str(value))
        if match is None:
            expected = say("应如 8G 或 512M", "expected like 8G or 512M")
            self.fail(
                say(f"读到 {value!r}，{expected}", f"found {value!r}, {expected}"), param, ctx
            )
        size = int(float(match[1]) * _UNITS[match[2].upper()])
        if size < LEAST_MEMORY:
            expected = say("至少 256M", "expected 256M or more")
            self.fail(
                say(f"读到 {value!r}，{expected}", f"found {value!r}, {expected}"), param, ctx
            )
        return size


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


registry_option = option(
    "--registry",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    about=Text(
        "登记数据文件夹（企业、药品、网店、召回等）。", "Registry folder (enterprises, drugs, ...)."
    ),
)
policy_option = option(
    "--policy",
    default=None,
    metavar="FILE",
    about=Text("策略文件（默认随附策略）。", "Policy file (default: the one shipped)."),
)
budget_option = option(
    "--budget",
    type=click.IntRange(0, 1_000_000),
    default=100,
    show_default=True,
    about=Text("抽检计划的样品数。", "Samples in the sampling plan."),
)
seed_option = option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    about=Text("随机抽样的种子。", "Seed of the plan's random part."),
)
force_option = option(
    "--force",
    is_flag=True,
    about=Text(
        "允许写入不是本程序结果的非空文件夹。",
        "Write even into a folder that holds other files.",
    ),
)


def folder_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument DIR, an output folder."""
    decorated: Callable[..., Any] = click.argument(
        "folder", metavar="DIR", type=click.Path(path_type=Path)
    )(function)
    return decorated

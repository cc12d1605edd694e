"""The command line starts at once: help needs click and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = {"numpy", "numba", "pyarrow", "sklearn", "rich", "jinja2", "networkx", "msgspec"}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


def test_help_imports_neither_numpy_nor_the_like() -> None:
    names = python(
        "import sys; from trace_engine.cli import run; run(['--help'])\n"
        "print(); print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = set(names.rsplit("LOADED", 1)[1].split())
    assert "click" in loaded
    assert not loaded & HEAVY


def test_help_of_a_command_imports_neither() -> None:
    for command in ("score", "explain", "convert", "catalog", "demo", "plan", "doctor"):
        names = python(
            f"import sys; from trace_engine.cli import run; run(['{command}', '--help'])\n"
            "print(); print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
        )
        assert not set(names.rsplit("LOADED", 1)[1].split()) & HEAVY, command


def test_help_is_fast() -> None:
    """Measured in processor time: on a busy machine the clock on the wall says little."""
    command = [sys.executable, "-m", "trace_engine", "--help"]
    took = []
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        took.append(usage.ru_utime + usage.ru_stime)
    assert min(took) < 0.3

"""Imports point down only, detectors stand alone, and the package's root stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "trace_engine"
DETECTORS = PACKAGE / "detectors"
SHARED = {"base", "registry"}
HEAVY = {
    "chinese_calendar",
    "jinja2",
    "llvmlite",
    "msgspec",
    "networkx",
    "numba",
    "numpy",
    "pyarrow",
    "scipy",
    "sklearn",
    "stdnum",
    "xlsxwriter",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_contracts_of_the_layers_hold() -> None:
    done = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def loaded_by(statement: str) -> set[str]:
    """Return top-level packages in memory after ``statement`` ran in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import trace_engine",
        "import trace_engine.cli",
        "from trace_engine.cli import run; run(['--help'])",
        "from trace_engine.cli import run; run(['version'])",
    ],
)
def test_start_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_the_budget_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_public_names_are_there() -> None:
    done = run("-c", "import trace_engine\nfor n in trace_engine.__all__: getattr(trace_engine, n)")
    assert done.returncode == 0, done.stderr


def neighbours(path: Path) -> set[str]:
    """Return names of modules of the detectors' folder that a module of it imports."""
    prefix = "trace_engine.detectors"
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            module = prefix + module[1:] if module.startswith(".") else module
            module = module.rstrip(".")
            names = [f"{module}.{a.name}" for a in node.names] if module == prefix else [module]
        else:
            continue
        found |= {n[len(prefix) + 1 :].split(".")[0] for n in names if n.startswith(prefix + ".")}
    return found


@pytest.mark.parametrize(
    "path",
    sorted(p for p in DETECTORS.glob("*.py") if p.stem not in {*SHARED, "__init__"}),
    ids=lambda p: p.stem,
)
def test_detectors_do_not_know_each_other(path: Path) -> None:
    """They share ``base`` and helpers whose names begin with ``_``, and nothing else."""
    others = {name for name in neighbours(path) if name != "base" and not name.startswith("_")}
    assert others == set()

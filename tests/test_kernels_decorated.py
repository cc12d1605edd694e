"""Every compiled function goes through ``@kernel``: one cache, one place that talks to numba."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "trace_engine"
HOME = PACKAGE / "core" / "kernel.py"
COMPILERS = {
    "jit",
    "njit",
    "vectorize",
    "guvectorize",
    "cfunc",
    "stencil",
    "jitclass",
    "generated_jit",
}


def direct_uses(source: str) -> list[str]:
    """Return ``line: name`` of each of numba's compilers that the source names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numba":
            found += [f"{node.lineno}: {a.name}" for a in node.names if a.name in COMPILERS | {"*"}]
        elif isinstance(node, ast.Attribute) and node.attr in COMPILERS:
            found.append(f"{node.lineno}: {node.attr}")
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != HOME)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_numba_is_used_through_our_decorator_only(path: Path) -> None:
    assert direct_uses(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import numba\n@numba.njit\ndef f(): ...",
        "import numba as nb\n@nb.jit(nopython=True)\ndef f(): ...",
        "from numba import njit",
        "from numba import *",
        "from numba.experimental import jitclass",
    ],
)
def test_the_check_sees_what_it_looks_for(source: str) -> None:
    assert direct_uses(source)


def test_the_decorator_itself_compiles_with_numba() -> None:
    assert direct_uses(HOME.read_text(encoding="utf-8"))

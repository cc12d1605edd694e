"""``@kernel``: numba compilation with a cache that cannot lie and cannot stop an import.

numba's own cache has faults for us: it does not notice an edited callee in another module, it
makes a package unimportable where nothing is writable, and it lives beside the sources. Here the
cache folder of a module's kernels is named by a hash of its source and of every source it takes
kernels or constants from: any edit of those means a new folder, and no other module compiles anew.
What becomes of the files is told in :mod:`trace_engine.core.kernel_cache`.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from trace_engine.core.kernel_cache import cache_folder, keep

if TYPE_CHECKING:
    import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT.name

# Modules without kernels whose constants are compiled into kernels.
_CONSTANTS = {"core/signals.py", "events/batch.py", "events/kinds.py"}

# What a module imports from the package: names in brackets may go over several lines.
_IMPORT = re.compile(rf"^\s*(?:from ({_PACKAGE}[\w.]*) import (\([^)]*\)|[^\n]*))", re.MULTILINE)

# Where the kernels of custody stand: they take longest to compile, so they tell warm from cold.
_HEAVIEST = f"{_PACKAGE}.core.ordering"

P = ParamSpec("P")
R = TypeVar("R")


@lru_cache(maxsize=1)
def _sources() -> dict[str, bytes]:
    """Return the sources compiled code can depend on, by module: kernels and their constants."""
    found = {}
    for path in sorted(_ROOT.rglob("*.py")):
        source = path.read_bytes()
        name = path.relative_to(_ROOT).as_posix()
        if (
            name in _CONSTANTS
            or b"@kernel" in source
            or b"@inlined" in source
            or b"@leaf" in source
        ):
            found[f"{_PACKAGE}.{name[:-3].replace('/', '.')}"] = source
    return found


@lru_cache(maxsize=256)
def _imported(module: str) -> set[str]:
    """Return the modules among :func:`_sources` that one of them imports from."""
    modules = set()
    for package, names in _IMPORT.findall(_sources()[module].decode()):
        modules |= {package} | {f"{package}.{name}" for name in re.findall(r"\w+", names)}
    return modules & _sources().keys()


@lru_cache(maxsize=256)
def source_hash(module: str, file: str | None = None) -> str:
    """Return 16 hex digits naming what the machine code of ``module``'s kernels can depend on.

    That is the version of numba, the module's own source and, through imports, those of other
    modules with kernels or constants. Of a module outside the package (a plug-in), its ``file`` and
    all of the package's count.
    """
    sources = _sources()
    needed: set[str] = set()
    waiting = {module} if module in sources else set(sources)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting |= _imported(name) - needed
    digest = hashlib.sha256(version("numba").encode())
    if module not in sources and file is not None and Path(file).is_file():
        digest.update(Path(file).read_bytes())
    for name in sorted(needed):
        digest.update(name.encode())
        digest.update(sources[name])
    return digest.hexdigest()[:16]


def is_warm() -> bool:
    """Return whether compiled kernels of these sources are already on disk."""
    folder = cache_folder()
    return folder is not None and any((folder / source_hash(_HEAVIEST)).glob("*.nbc"))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` without the GIL on first call and keep the result on disk."""
    return _compile(function)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Like :func:`kernel`, for tiny functions called per event: folded into their callers."""
    return _compile(function, forceinline=True)


def leaf(function: Callable[P, R]) -> Callable[P, R]:
    """Like :func:`kernel`, for functions called per event that allocate nothing.

    They are compiled without reference counts: an array handed from function to function would
    otherwise cost two atomic instructions a call (measured: most of the time of custody).
    """
    return _compile(function, _nrt=False)


def _compile(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return function
    import numba

    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
    keep(dispatcher, source_hash(function.__module__, inspect.getfile(function)))
    return dispatcher  # type: ignore[no-any-return]


def record(fields: list[tuple[str, Any]]) -> np.dtype[Any]:
    """Return an aligned structured dtype; not compiled, its elements have fields as attributes too.

    numba reads ``element.field``, numpy only ``element["field"]``.
    """
    import numpy as np

    plain = np.dtype(fields, align=True)
    if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
        return plain
    names = frozenset(plain.names or ())

    class Element(np.record):  # type: ignore[misc]
        """A record whose fields come before what numpy calls by the same name (``flags``)."""

        def __getattribute__(self, name: str) -> Any:
            return self[name] if name in names else super().__getattribute__(name)

        def __setattr__(self, name: str, value: Any) -> None:
            self[name] = value

    return np.dtype((Element, plain))

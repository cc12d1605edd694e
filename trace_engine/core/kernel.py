"""``@kernel``: numba compilation with a cache that cannot lie and cannot stop an import.

numba's own cache has three faults for us: it does not notice an edited callee in another module, it
makes a package unimportable where nothing is writable, and it lives beside the sources. Here the
cache folder of a module's kernels is named by a hash of its source and of every source it takes
kernels or constants from: any edit of those means a new folder, and no other module compiles anew.
Where no folder can be written, kernels compile in memory, with one warning.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

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
    """Return 16 hex digits naming the sources that the kernels of ``module`` can depend on.

    Those are its own and, through imports, those of other modules with kernels or constants. Of a
    module outside the package (a plug-in), its ``file`` and all of the package's count.
    """
    sources = _sources()
    needed: set[str] = set()
    waiting = {module} if module in sources else set(sources)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting |= _imported(name) - needed
    digest = hashlib.sha256()
    if module not in sources and file is not None and Path(file).is_file():
        digest.update(Path(file).read_bytes())
    for name in sorted(needed):
        digest.update(name.encode())
        digest.update(sources[name])
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def cache_folder() -> str | None:
    """Return the folder for compiled kernels, or None if none can be written."""
    chosen = os.environ.get("TRACE_ENGINE_CACHE_DIR")
    if chosen:
        base = Path(chosen)
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        base = Path(cache) / "trace_engine"
    folder = base / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        warnings.warn(
            "no writable folder for compiled kernels: they are compiled again in each process; "
            "set TRACE_ENGINE_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return str(folder)


def is_warm() -> bool:
    """Return whether compiled kernels of these sources are already on disk."""
    folder = cache_folder()
    if folder is None:
        return False
    return any((Path(folder) / source_hash(_HEAVIEST)).glob("*.nbi"))


def _use_folder(dispatcher: Any, folder: str) -> bool:
    """Point one dispatcher's cache at ``folder``; False if this numba does it differently."""
    try:
        from numba.core.caching import FunctionCache, _CacheLocator

        class Locator(_CacheLocator):  # type: ignore[misc]
            def __init__(self, py_func: Any, py_file: Any) -> None:
                self._name = f"{py_func.__module__}.{py_func.__qualname__}"
                self._stamp = source_hash(py_func.__module__, py_file)

            def get_cache_path(self) -> str:
                return str(Path(folder) / self._stamp)

            def get_source_stamp(self) -> Any:
                return self._stamp

            def get_disambiguator(self) -> str:
                return hashlib.sha256(self._name.encode()).hexdigest()[:10]

            @classmethod
            def from_function(cls, py_func: Any, py_file: Any) -> Any:
                return cls(py_func, py_file)

        class Cache(FunctionCache):  # type: ignore[misc]
            class _impl_class(FunctionCache._impl_class):  # type: ignore[misc]
                _locator_classes = [Locator]

        dispatcher._cache = Cache(dispatcher.py_func)
    except (ImportError, AttributeError, TypeError, RuntimeError):
        return False
    return True


@lru_cache(maxsize=1)
def _warn_uncached() -> None:
    """Say once that this version of numba keeps its cache in another way."""
    warnings.warn(
        "this version of numba does not let compiled kernels be kept: they are compiled again in "
        "each process",
        RuntimeWarning,
        stacklevel=3,
    )


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
    folder = cache_folder()
    if folder is not None and not _use_folder(dispatcher, folder):
        _warn_uncached()
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

"""``@kernel``: numba compilation with a cache that cannot lie and cannot stop an import.

numba's own cache has three faults for us: it does not notice an edited callee in another module, it
makes a package unimportable where nothing is writable, and it lives beside the sources. Here the
cache folder is named by a hash of every source file a kernel can depend on: any edit of those means
a new folder. Where no folder can be written, kernels compile in memory, with one warning.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import numpy as np

# Modules without kernels whose constants are compiled into kernels.
_CONSTANTS = {"core/signals.py", "events/batch.py", "events/kinds.py"}

P = ParamSpec("P")
R = TypeVar("R")


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Return 16 hex digits naming the sources that compiled code can depend on.

    Those are the modules that hold kernels, and those whose constants kernels take in.
    """
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        source = path.read_bytes()
        name = path.relative_to(root).as_posix()
        if (
            name in _CONSTANTS
            or b"@kernel" in source
            or b"@inlined" in source
            or b"@leaf" in source
        ):
            digest.update(name.encode())
            digest.update(source)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def cache_folder() -> str | None:
    """Return the folder for compiled kernels, or None if none can be written."""
    chosen = os.environ.get("TRACE_ENGINE_CACHE_DIR")
    if chosen:
        candidates = [Path(chosen)]
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        candidates = [Path(base) / "trace_engine"]
    for base_path in candidates:
        folder = base_path / f"kernels-{source_hash()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        return str(folder)
    warnings.warn(
        "no writable folder for compiled kernels: they are compiled again in each process; "
        "set TRACE_ENGINE_CACHE_DIR to a writable folder",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def is_warm() -> bool:
    """Return whether compiled kernels of these sources are already on disk."""
    folder = cache_folder()
    return folder is not None and any(Path(folder).rglob("*.nbi"))


def _use_folder(dispatcher: Any, folder: str) -> bool:
    """Point one dispatcher's cache at ``folder``; False if this numba does it differently."""
    try:
        from numba.core.caching import FunctionCache, _CacheLocator

        class Locator(_CacheLocator):  # type: ignore[misc]
            def __init__(self, py_func: Any) -> None:
                self._name = f"{py_func.__module__}.{py_func.__qualname__}"

            def get_cache_path(self) -> str:
                return folder

            def get_source_stamp(self) -> Any:
                return source_hash()

            def get_disambiguator(self) -> str:
                return hashlib.sha256(self._name.encode()).hexdigest()[:10]

            @classmethod
            def from_function(cls, py_func: Any, py_file: Any) -> Any:
                return cls(py_func)

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

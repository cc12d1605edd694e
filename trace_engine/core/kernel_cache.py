"""Where compiled kernels are kept on disk. Whatever is wrong there, the program runs.

numba's own cache raises what it meets: a folder that cannot be written, a full disk, a file cut
short by a crash; machine code damaged in other ways it runs. Here such a kernel is compiled in
memory, and what is damaged (by its checksum) is written anew. A folder that can only be read, as in
a container, is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

_LOCK = "lock"  # in the folder of a module's kernels
_SUM = ".sha256"


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return the folder for compiled kernels, whether it is there or not; None without a home."""
    chosen = os.environ.get("TRACE_ENGINE_CACHE_DIR")
    if chosen:
        return Path(chosen) / "kernels"
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(cache) / "trace_engine" / "kernels"


def is_writable() -> bool:
    """Return whether compiled kernels can be kept for the next run."""
    folder = cache_folder()
    if folder is None:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b".")  # on a full disk an empty file can still be made
            return True
    except OSError:
        return False


def keep(dispatcher: Any, stamp: str) -> None:
    """Keep what ``dispatcher`` (of numba) compiles in the folder's sub-folder ``stamp``.

    ``stamp`` names all that its machine code depends on, but for types and processor.
    """
    folder = cache_folder()
    if folder is None:
        _warn_unwritable("no home folder")
    elif not _attach(dispatcher, folder / stamp, stamp):
        _warn_unknown()


def _attach(dispatcher: Any, folder: Path, stamp: str) -> bool:
    """Give one dispatcher its cache; False if this numba does it differently."""
    try:
        from numba.core.caching import FunctionCache, IndexDataCacheFile, _CacheLocator

        class Locator(_CacheLocator):  # type: ignore[misc]
            def __init__(self, py_func: Any, py_file: Any) -> None:
                self._py_file = py_file
                self._name = f"{py_func.__module__}.{py_func.__qualname__}"

            def get_cache_path(self) -> str:
                return str(folder)

            def get_source_stamp(self) -> Any:
                return stamp

            def get_disambiguator(self) -> str:
                return hashlib.sha256(self._name.encode()).hexdigest()[:10]

            @classmethod
            def from_function(cls, py_func: Any, py_file: Any) -> Any:
                return cls(py_func, py_file)

        class Files(IndexDataCacheFile):  # type: ignore[misc]
            def save(self, key: Any, data: Any) -> None:
                try:
                    known = self._load_index()
                except OSError:
                    raise
                except Exception:  # noqa: BLE001 - a damaged index can raise anything
                    known = {}
                    for path in folder.glob(f"{self._index_name[:-4]}.*.nbc"):
                        path.unlink()  # nobody knows any more of which signature it is
                taken = set(known.values())
                names = map(self._data_name, itertools.count(1))
                name = known.get(key) or next(name for name in names if name not in taken)
                self._save_data(name, data)  # first: an index names nothing that is not there
                self._save_index({**known, key: name})

            def _save_data(self, name: str, data: Any) -> None:
                super()._save_data(name, data)
                with self._open_for_write(self._data_path(name) + _SUM) as file:
                    file.write(_checksum(self._data_path(name)))

            def _load_data(self, name: str) -> Any:
                path = self._data_path(name)
                if Path(path + _SUM).read_bytes() != _checksum(path):
                    raise OSError(f"{path}: damaged")
                return super()._load_data(name)

        class Cache(FunctionCache):  # type: ignore[misc]
            class _impl_class(FunctionCache._impl_class):  # type: ignore[misc]
                _locator_classes = [Locator]

            def __init__(self, py_func: Any) -> None:
                super().__init__(py_func)
                self._cache_file = Files(str(folder), self._impl.filename_base, stamp)

            def load_overload(self, sig: Any, target_context: Any) -> Any:
                try:
                    return super().load_overload(sig, target_context)
                except Exception:  # noqa: BLE001 - a damaged file can raise anything
                    return None

            def save_overload(self, sig: Any, data: Any) -> None:
                try:
                    with _locked(folder):
                        super().save_overload(sig, data)
                except Exception as error:  # noqa: BLE001 - what was compiled is in memory
                    _warn_unwritable(type(error).__name__)

        dispatcher._cache = Cache(dispatcher.py_func)
    except (ImportError, AttributeError, TypeError, RuntimeError):
        return False
    return True


def _checksum(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write: two would give two kernels of an index one file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("ab") as file:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=8)
def _warn_unwritable(why: str) -> None:
    """Say once for each reason that kernels are not kept."""
    warnings.warn(
        f"compiled kernels cannot be kept ({why}): they are compiled again in each process; "
        "set TRACE_ENGINE_CACHE_DIR to a writable folder",
        RuntimeWarning,
        stacklevel=2,
    )


@lru_cache(maxsize=1)
def _warn_unknown() -> None:
    """Say once that this version of numba keeps its cache in another way."""
    warnings.warn(
        "this version of numba does not let compiled kernels be kept: they are compiled again in "
        "each process",
        RuntimeWarning,
        stacklevel=2,
    )

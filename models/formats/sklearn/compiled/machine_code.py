"""Compiles the pass, or reads what an earlier process compiled from a folder that only its owner may write.

numba reads its files with pickle, so a file of somebody else could run code here.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np

from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.models.formats.sklearn.compiled import kernels, layout

FOLDER = "compiled"
_KEPT = 4
"""Folders of other versions or processors that stay; the oldest ones are deleted."""
_BYTES, _NUMBERS, _FLOATS = numba.uint8[::1], numba.int64[::1], numba.float64[:, ::1]
_READ_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_SIGNATURES = {
    "add_scores": numba.void(
        _READ_BYTES, _NUMBERS, _BYTES, numba.int32[::1], numba.int64, numba.boolean, numba.int64, numba.int64,
        numba.int64[:, ::1], _NUMBERS, _READ_BYTES, numba.int64, numba.int64[:, ::1], _BYTES,
        numba.boolean, numba.boolean, numba.boolean, numba.int64, numba.boolean, numba.int64,
        _FLOATS, _FLOATS, numba.boolean[::1],
    ),
    "fill_words": numba.void(numba.int64[:, ::1], _NUMBERS, _NUMBERS, _READ_BYTES),
    "fill_grams": numba.void(numba.int64[:, ::1], _BYTES, numba.int64[:, ::1]),
}  # fmt: skip


@dataclass(frozen=True)
class MachineCode:
    """The functions of `kernels` that are called from here, ready to run without the interpreter's lock."""

    add_scores: Callable[..., None]
    fill_words: Callable[..., None]
    fill_grams: Callable[..., None]


_of_process: list[MachineCode] = []
"""What this process compiled or read, once it did."""


def machine_code(cache: Path) -> MachineCode:
    """The compiled functions. One process compiles them into the folder `cache`, and the others read them there.

    A folder that cannot be used costs a compilation of some seconds, and nothing else.
    """
    if not _of_process:
        _of_process.append(_read_or_compiled(cache))
    return _of_process[0]


def _read_or_compiled(cache: Path) -> MachineCode:
    try:
        with _folder(cache) as folder:
            return _compiled(folder)
    except Exception as error:  # noqa: BLE001 -- a full disk, a damaged file: numba reports each in another way
        emit("engine.not_cached", folder=str(cache / FOLDER), reason=one_line(error))
    return _compiled(None)


def _compiled(folder: Path | None) -> MachineCode:
    found = {}
    for name, signature in _SIGNATURES.items():
        own: Any = numba.njit(nogil=True)(getattr(kernels, name))
        if folder is not None:
            with _cached_in(folder):
                own.enable_caching()
        own.compile(signature)
        own.disable_compile()
        found[name] = own
    return MachineCode(**found)


@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    """numba's folder for files of functions that are made in the block; a model's own functions keep theirs."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


@contextmanager
def _folder(cache: Path) -> Iterator[Path]:
    """The folder for these versions and this processor; one process at a time compiles, and the others wait for it.

    Raises OSError if the folder cannot be written, PermissionError if others may write it.
    """
    home = cache.expanduser() / FOLDER
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = home.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{home} belongs to somebody else, or others may write to it")
    own = home / _key()
    own.mkdir(exist_ok=True, mode=0o700)
    with (home / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(own)
        for old in sorted(home.glob("*-*"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        try:
            yield own
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)  # the next process begins with an empty folder
            raise


def _key() -> str:
    """Names all that machine code depends on: versions, our own code, and the processor."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (kernels, layout))
    features = llvmlite.binding.get_host_cpu_features().flatten()
    parts = (
        platform.python_version(),
        np.__version__,
        numba.__version__,
        importlib.metadata.version("llvmlite"),
        llvmlite.binding.get_host_cpu_name(),
        features,
        hashlib.sha256(sources).hexdigest(),
    )
    return f"numba-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"

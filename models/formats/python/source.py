"""Finds the source of a Python module without importing it, and copies it with the files that it opens."""

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from scorebeat.core.errors import StoreError
from scorebeat.models.copying import copy_folder, copy_regular

CODE = "code"
FILES = "files"
_UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def copy_code(module: str, target: Path) -> None:
    """Copy a module's file, or the whole package that it is in, into the new folder `target`.

    It is searched in the current folder, then on Python's path. Raises StoreError if it does not exist or has no
    source.
    """
    top = module.partition(".")[0]
    whole = _source(top)
    if whole.name == "__init__.py":
        inside = whole.parent.joinpath(*module.split(".")[1:])
        if module != top and not inside.with_suffix(".py").is_file() and not (inside / "__init__.py").is_file():
            raise StoreError(f"there is no module {module} in the package {whole.parent}")
        _copy(whole.parent, target / top)
    elif module != top:
        raise StoreError(f"{module} is not there: {whole} is a module, not a package")
    else:
        target.mkdir()
        _copy(whole, target / whole.name)


def copy_files(files: Sequence[str], target: Path) -> None:
    """Copy files and folders into the new folder `target`, under their own names. Raises StoreError."""
    target.mkdir()
    for file in files:
        path = Path(file)
        if not path.exists():
            raise StoreError(f"--file {file}: there is no such file")
        if (target / path.name).exists():
            raise StoreError(f"--file {file}: a file called {path.name} is among them already; rename one of them")
        _copy(path.resolve(), target / path.name)


def _source(top: str) -> Path:
    """The file of a module, or the `__init__.py` of a package."""
    spec = PathFinder.find_spec(top, [str(Path.cwd()), *sys.path])
    try:
        spec = spec or importlib.util.find_spec(top)  # import hooks may find it, too; nothing is imported
    except ValueError:
        spec = None
    if spec is None:
        raise StoreError(f"there is no module {top} in the current folder, {Path.cwd()}, or on Python's path")
    if spec.origin is None:
        raise StoreError(f"the folder {top} is no package: it has no __init__.py")
    path = Path(spec.origin)
    if path.suffix != ".py" or not path.is_file():
        raise StoreError(f"module {top} has no Python source that could be copied ({spec.origin})")
    return path


def _copy(path: Path, target: Path) -> None:
    try:
        if path.is_dir():
            copy_folder(path, target, _UNWANTED)
        else:
            copy_regular(path, target)
    except (OSError, shutil.Error) as error:
        raise StoreError(f"{path} cannot be copied: {error}") from error

"""Imports a model's own code under a private name: it neither shadows our modules nor is shadowed by them.

Each load has modules of its own, `_scorebeat_code_7.mypackage.clean`, which are deleted with the model. Every
module of the code has builtins of its own, whose `__import__` turns `mypackage` into that name. So `import` and
`from mypackage import ...` work as outside of Scorebeat, also in a function that runs much later, and other
modules are not affected. (Python takes `__import__` from the builtins of the module that imports:
https://docs.python.org/3/reference/executionmodel.html#builtins-and-restricted-execution.)
"""

import builtins
import importlib
import itertools
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any

from scorebeat.core.errors import kind, one_line, raised, text

PREFIX = "_scorebeat_code_"
OLD_HELPER = "models.inner"
"""The name of `scorebeat.models.inner` in code that was added under Scorebeat 0.1."""
_numbers = itertools.count(1)


class PrivateCode:
    """The code in one folder, importable until `forget`."""

    def __init__(self, folder: Path, top: str) -> None:
        """`top` is the name of the only module or package in `folder`."""
        self.folder = folder.resolve()  # file names in tracebacks are resolved, too
        self.root = f"{PREFIX}{next(_numbers)}"
        package = ModuleType(self.root)
        package.__path__ = [str(self.folder)]
        has_own = (self.folder / OLD_HELPER.replace(".", "/")).with_suffix(".py").is_file()
        self._finder = _Finder(self.root, _importer(self.root, top, has_own_helper=has_own))
        sys.modules[self.root] = package
        sys.meta_path.insert(0, self._finder)

    def module(self, name: str) -> ModuleType:
        """The module that its own code calls `name`. Raises whatever its import raises."""
        return importlib.import_module(f"{self.root}.{name}")

    def forget(self) -> None:
        """Remove the modules from `sys.modules`; objects of theirs stay alive."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        for name in [n for n in sys.modules if n == self.root or n.startswith(f"{self.root}.")]:
            del sys.modules[name]

    def blame(self, error: BaseException) -> str:
        """An error of this code on one line, with the file and line where the code raised it."""
        message = one_line(text(error).replace(f"{self.root}.", ""))
        own = raised(error)
        position = self._position(own if isinstance(own, BaseException) else error)
        return f"{position}: {kind(error)}{': ' * bool(message)}{message}"

    def _position(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError) and error.filename:
            return f"{self._relative(error.filename)}, line {error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if Path(f.filename).is_relative_to(self.folder)] or frames[-1:]
        return f"{self._relative(ours[-1].filename)}, line {ours[-1].lineno}" if ours else "its code"

    def _relative(self, file: str) -> str:
        path = Path(file)
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else path.name


_Import = Callable[..., ModuleType]


def _importer(root: str, top: str, *, has_own_helper: bool) -> _Import:
    """`__import__` for the modules under `root`, which import each other by the name `top`."""

    def private_import(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 -- the names of __import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and name == OLD_HELPER and not has_own_helper:
            ours = importlib.import_module(f"scorebeat.{OLD_HELPER}")
            return ours if fromlist else sys.modules["scorebeat.models"]
        if level or name.partition(".")[0] != top:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if fromlist:
            return builtins.__import__(f"{root}.{name}", globals, locals, fromlist, 0)
        importlib.import_module(f"{root}.{name}")
        return sys.modules[f"{root}.{top}"]  # `import a.b` binds a

    return private_import


class _Finder(MetaPathFinder):
    """Finds the modules of one root in its folders, by Python's own finder of files."""

    def __init__(self, root: str, importer: _Import) -> None:
        self.root = root
        self.importer = importer

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 -- importlib's signature
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.root}."):
            return None
        for folder in path or ():
            finder = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES))
            if spec := finder.find_spec(fullname):
                if isinstance(spec.loader, _Loader):
                    spec.loader.importer = self.importer
                return spec
        return None


class _Loader(SourceFileLoader):
    """Python's loader of source files, without writing bytecode: one more file would change the digest."""

    importer: _Import

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        pass

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self.importer}
        super().exec_module(module)

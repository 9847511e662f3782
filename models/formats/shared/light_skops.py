"""Imports skops without PyTorch: skops looks into every module of scikit-learn, and one of these imports PyTorch."""

import sys
from importlib import import_module
from typing import Any

_IMPORTS_TORCH = "sklearn.externals.array_api_compat.torch"


def skops_io() -> Any:
    """The module `skops.io`. If PyTorch is installed, this saves 200 MB a process, and two seconds."""
    if _IMPORTS_TORCH in sys.modules or "skops.io" in sys.modules:
        return import_module("skops.io")
    sys.modules[_IMPORTS_TORCH] = None  # type: ignore[assignment]  # Python's own way to make an import fail
    try:
        return import_module("skops.io")
    finally:
        del sys.modules[_IMPORTS_TORCH]

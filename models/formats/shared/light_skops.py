"""skops, imported without PyTorch: it looks into every module of scikit-learn, one of which wants that."""

import sys
from importlib import import_module
from typing import Any

_WANTS_TORCH = "sklearn.externals.array_api_compat.torch"


def skops_io() -> Any:
    """The module `skops.io`. Where PyTorch is installed this saves 200 MB a process, and two seconds."""
    if _WANTS_TORCH in sys.modules or "skops.io" in sys.modules:
        return import_module("skops.io")
    sys.modules[_WANTS_TORCH] = None  # type: ignore[assignment]  # Python's own way to say that it cannot be imported
    try:
        return import_module("skops.io")
    finally:
        del sys.modules[_WANTS_TORCH]

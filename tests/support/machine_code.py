"""One folder of machine code for all tests: compiling it takes seconds."""

import os
import tempfile
from pathlib import Path


def shared_machine_code(cache: Path) -> Path:
    """The folder `cache`, in which the compiled engine finds what an earlier test compiled."""
    home = Path(tempfile.gettempdir()) / f"scorebeat-tests-compiled-{os.geteuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "compiled").symlink_to(home)
    return cache

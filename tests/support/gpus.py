"""Pretended GPUs: an `nvidia-smi` that lists them, for tests of what needs no real one."""

import os
from pathlib import Path

MODEL = "NVIDIA Pretended 9"


def pretend(folder: Path, count: int = 2) -> dict[str, str]:
    """The environment of a program that finds so many GPUs; it has no CUDA all the same."""
    listing = "".join(f"GPU {i}: {MODEL} (UUID: GPU-{i}aaa-{i}bbb)\n" for i in range(count))
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    smi = programs / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ntest \"$1\" = -L || exit 1\ncat <<'END'\n{listing}END\n")
    smi.chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}

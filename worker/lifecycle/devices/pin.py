"""Pinning: a process a core, one math thread a process, so that processes do not fight over cores."""

import math
import os
from pathlib import Path

MATH_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "ARROW_IO_THREADS")

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container: microseconds of CPU time that it may use in a period, or `max`, and the period."""

_VARIABLE = "_SCOREBEAT_BIND"


def one_math_thread() -> None:
    """Let numeric libraries use one thread each, unless the environment sets a number; called before their import."""
    for variable in MATH_THREADS:
        os.environ.setdefault(variable, "1")


def bind_processes() -> None:
    """Each process of this worker is to be bound to a core; forked and spawned processes inherit this."""
    os.environ[_VARIABLE] = "1"


def is_bound() -> bool:
    return os.environ.get(_VARIABLE) == "1"


def cores() -> list[int]:
    """The cores that this process may use, lowest first."""
    return sorted(os.sched_getaffinity(0))


def cpus(quota: Path = QUOTA) -> int:
    """How many processes can compute at once: one a core, or fewer if a container has a quota; at least one."""
    try:
        allowed, period = quota.read_text().split()
    except OSError:
        return len(cores())
    return len(cores()) if allowed == "max" else max(1, min(len(cores()), math.floor(int(allowed) / int(period))))


def shares_cores(quota: Path = QUOTA) -> bool:
    """Whether other containers use the same cores; they would pin their processes to them, too."""
    return quota.exists() and cpus(quota) < len(cores())


def pin_to_core(index: int) -> int:
    """Pin this process to one core by its index in the pool; if processes outnumber cores, they share them."""
    allowed = cores()
    core = allowed[index % len(allowed)]
    os.sched_setaffinity(0, {core})
    return core

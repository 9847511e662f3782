"""What a benchmark starts: programs with their logs, and processes that begin at one signal."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

CONTEXT: SpawnContext = multiprocessing.get_context("spawn")
_LOG_END = 4000
"""Characters of each log that a failure shows."""


@contextmanager
def programs(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], folder: Path
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Each in a session of its own, so that its whole process group is stopped. A failure shows the logs' ends."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, start_new_session=True
                )
        yield running
    except BaseException:
        for name in running:
            log_end = (folder / f"{name}.log").read_text("utf-8", "replace")[-_LOG_END:]
            sys.stderr.write(f"--- {name}\n{log_end}\n")
        raise
    finally:
        for process in running.values():
            os.killpg(process.pid, signal.SIGTERM)
        for process in running.values():
            process.wait(timeout=90)


def seconds_of(run: Callable[..., None], work: Sequence[Any], *shared: Any) -> float:
    """Seconds from the time when all processes are ready until all are done.

    Each calls `run(part, barrier, *shared)`, which waits at the barrier when it is ready, and again when it is done.
    """
    barrier = CONTEXT.Barrier(len(work) + 1)
    processes = [CONTEXT.Process(target=run, args=(part, barrier, *shared)) for part in work]
    for process in processes:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds

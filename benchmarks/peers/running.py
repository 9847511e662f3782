"""Runs a peer's program in its own environment, and measures it."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from benchmarks.peers.programs.task import DONE, READY, Task

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 300
"""A program that is silent for longer is ended."""
LOG_END = 4_000
"""Characters of its log that a failure shows."""


@dataclass(frozen=True)
class Program:
    """A running program that has started and scored a few rows."""

    versions: dict[str, str]
    _process: "subprocess.Popen[str]"

    def seconds(self, table: str) -> float:
        """From the start signal to the last commit."""
        began = time.perf_counter()
        _write(self._process, table)
        reply = _read(self._process)
        seconds = time.perf_counter() - began
        if reply != DONE:
            raise AssertionError(f"the program ended or printed {reply!r}")
        return seconds


@contextmanager
def program(python: Path, module: str, task: Task, log: Path) -> Iterator[Program]:
    """Started and warm. Raises AssertionError with the end of its log if it fails or hangs."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [python, "-m", module],
            cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        _write(process, json.dumps(asdict(task)))
        word, _, versions = _read(process).partition(" ")
        if word != READY:
            raise AssertionError("the program did not start")
        yield Program(json.loads(versions), process)
    except (AssertionError, BrokenPipeError) as error:
        raise AssertionError(
            f"{module}: {error}; the end of its log:\n{log.read_text('utf-8', 'replace')[-LOG_END:]}"
        ) from error
    finally:
        _end(process)


def _write(process: "subprocess.Popen[str]", line: str) -> None:
    pipe = _pipe(process.stdin)
    pipe.write(f"{line}\n")
    pipe.flush()


def _read(process: "subprocess.Popen[str]") -> str:
    """A line; empty if the process has ended, or is silent for too long and is ended."""
    timer = threading.Timer(PATIENCE_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        return _pipe(process.stdout).readline().strip()
    finally:
        timer.cancel()


def _end(process: "subprocess.Popen[str]") -> None:
    """Let it stop what it has started; after half a minute kill it."""
    _pipe(process.stdin).close()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _pipe(process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe

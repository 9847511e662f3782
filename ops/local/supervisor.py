"""Runs child processes with one log: restarts those that die, and stops all in the reverse order."""

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from scorebeat.ops.local.interrupts import Interrupts
from scorebeat.ops.local.log import Log
from scorebeat.ops.local.processes import Child, Process, describe

OWN_NAME = "scorebeat"
FIRST_PAUSE = 1.0
"""Seconds before a process that died is restarted; doubled each time."""
LONGEST_PAUSE = 30.0
LIVED = 60.0
"""Seconds after which a process counts as healthy: its next pause is the first one again."""
LOOK_EVERY = 0.2
"""Seconds between two looks at the children."""
LAST_WORDS_WITHIN = 2.0
"""Seconds to wait for the last output of a process that ended; a child of its own may hold the pipe open."""


@dataclass
class _Watched:
    process: Process
    child: Child
    reader: threading.Thread
    started: float
    pause: float = FIRST_PAUSE
    due: float | None = None
    """When it is restarted; None while it runs, or if it must not be restarted."""
    gone: bool = False


class Supervisor:
    """Children of this process for as long as its `with` block lasts; use it from one thread.

    Call `tend` often, or `run` to tend until the operator wants to stop.
    """

    def __init__(self, log: Log, interrupts: Interrupts, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._interrupts = interrupts
        self._clock = clock
        self._watched: list[_Watched] = []

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def log(self, line: str) -> None:
        """Write a line of our own to the log."""
        self._log.write(OWN_NAME, line)

    def start(self, process: Process) -> None:
        self.log(f"starting {process.name}{process.note and f' ({process.note})'}")
        child, reader = self._spawn(process)
        self._watched.append(_Watched(process, child, reader, self._clock()))

    def ended(self, name: str) -> str | None:
        """How the process of that name ended; None while it runs."""
        status = next(watched.child.ended() for watched in self._watched if watched.process.name == name)
        return None if status is None else describe(status)

    def tend(self) -> int:
        """Log the children that died, and restart those whose pause is over; returns how many were restarted."""
        restarted = 0
        for watched in self._watched:
            if watched.gone:
                continue
            if watched.due is None:
                status = watched.child.ended()
                if status is not None:
                    self._bury(watched, status)
            elif self._clock() >= watched.due:
                self.log(f"starting {watched.process.name} again")
                watched.child, watched.reader = self._spawn(watched.process)
                watched.started, watched.due = self._clock(), None
                restarted += 1
        return restarted

    def run(self) -> None:
        """Tend until SIGINT, SIGTERM or SIGHUP."""
        while not self._interrupts.stopping:
            self.tend()
            self._interrupts.wait(LOOK_EVERY)

    def stop(self) -> None:
        """End all children, the last one started first; returns when nothing of them is left."""
        while self._watched:
            watched = self._watched.pop()
            if watched.gone or watched.due is not None:
                continue
            self.log(f"stopping {watched.process.name}")
            status = watched.child.stop(lambda: self._interrupts.hurried)
            watched.reader.join(LAST_WORDS_WITHIN)
            self.log(f"{watched.process.name} {describe(status)}")

    def _bury(self, watched: _Watched, status: int) -> None:
        """Log the end of a child, and when it is restarted: after a pause that is doubled each time."""
        watched.reader.join(LAST_WORDS_WITHIN)  # its last output comes before our line
        end = f"{watched.process.name} {describe(status)}"
        if not watched.process.restart:
            watched.gone = True
            self.log(end)
            return
        now = self._clock()
        if now - watched.started >= LIVED:
            watched.pause = FIRST_PAUSE
        self.log(f"{end}; it is started again in {watched.pause:g} s")
        watched.due = now + watched.pause
        watched.pause = min(watched.pause * 2, LONGEST_PAUSE)

    def _spawn(self, process: Process) -> tuple[Child, threading.Thread]:
        child = Child(process, subprocess.PIPE)
        if child.output is None:
            raise AssertionError("a child started with PIPE has an output")
        return child, self._log.follow(process.name, child.output)

"""One child process: started by the launcher, watched until its end, stopped step by step."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO

from scorebeat.ops.local.privileges import Identity, launcher, ourselves

POLL = 0.02
"""Seconds between two looks at a child that got a signal to stop."""
HURRY = 2.0
"""Seconds that a step of a stop lasts at most, if the operator is in a hurry."""
AFTER_KILL = 10.0
"""Seconds that the kernel may take to end a killed process."""


@dataclass(frozen=True)
class Process:
    """What to run, and how to end it."""

    name: str
    argv: tuple[str, ...]
    """The program's full path, then its arguments. Secrets go into `env`: argv is public."""
    env: Mapping[str, str] | None = None
    """The whole environment; None for ours."""
    stop: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    """Signals to try one after another, each with the seconds that it gets; then SIGKILL."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """The signal that the kernel sends it when we are killed."""
    restart: bool = True
    identity: Identity = field(default_factory=ourselves)
    pass_fds: tuple[int, ...] = ()
    umask: int = -1
    """The umask for its new files; -1 is our own umask."""
    note: str = ""
    """Shown to the operator after its start, such as its address."""


class Child:
    """A running Process. Start it from a thread that outlives it: the kernel takes that thread's end for ours."""

    def __init__(self, process: Process, output: int | IO[bytes]) -> None:
        """Start it; standard output and standard error both go to `output`."""
        self.process = process
        # a session of its own: a terminal's Ctrl-C reaches us alone, and we stop the children in order
        self._popen = subprocess.Popen(
            launcher(process.identity, process.orphan_signal, process.argv),
            env=process.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=process.pass_fds,
            umask=process.umask,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> IO[bytes] | None:
        return self._popen.stdout

    def ended(self) -> int | None:
        """Exit status, or minus the signal's number; None while it runs.

        The rest of its process group is killed before its process id can be used again.
        """
        if self._popen.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._signal_group(signal.SIGKILL)
        return self._popen.wait()

    def stop(self, hurried: Callable[[], bool]) -> int:
        """End it, one step after another, and return how it ended. Returns when nothing of it is left."""
        for number, grace in self.process.stop:
            if self.ended() is None:
                self._popen.send_signal(number)
            if self._gone_within(grace, hurried):
                return self._popen.wait()
        self._signal_group(signal.SIGKILL)
        return self._popen.wait(AFTER_KILL)

    def _gone_within(self, grace: float, hurried: Callable[[], bool]) -> bool:
        begun = time.monotonic()
        while self.ended() is None:
            if time.monotonic() - begun > (min(grace, HURRY) if hurried() else grace):
                return False
            time.sleep(POLL)
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # gone; macOS returns EPERM for a group of zombies
            return


def describe(status: int) -> str:
    """`ended with status 3`, or `killed by SIGKILL`."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"

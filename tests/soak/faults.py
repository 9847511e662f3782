"""The faults: each is done to real processes, found by what they are called."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from scorebeat.broker.app import queue
from scorebeat.core.queues import SCORE
from scorebeat.core.settings import Settings
from scorebeat.producer.context import Producer

STOPPED_SECONDS = 6.0
"""Longer than a claim lasts in the soak."""


@dataclass(frozen=True)
class System:
    """The system that the faults are done to."""

    supervisor: int
    settings: Settings
    random: random.Random
    """Of this fault alone."""


def kill_child(system: System) -> str | None:
    """kill -9 of a process that scores."""
    return _kill(system, [c for parent in _workers(system, "cpu-") for c in _children(parent)])


def kill_worker(system: System) -> str | None:
    """kill -9 of a worker's parent; its children die with it."""
    return _kill(system, _workers(system, "cpu-"))


def kill_control(system: System) -> str | None:
    return _kill(system, _workers(system, "control@") + _workers(system, "plan@"))


def kill_beat(system: System) -> str | None:
    return _kill(system, [pid for pid in _family(system.supervisor) if " worker beat" in _command(pid)])


def kill_broker(system: System) -> str | None:
    return _kill(system, [pid for pid in _family(system.supervisor) if "valkey-server" in _command(pid)])


def kill_database(system: System) -> str | None:
    """kill -9 of PostgreSQL's parent: it recovers from its log."""
    return _kill(system, _postgres(system))


def kill_backend(system: System) -> str | None:
    """kill -9 of one PostgreSQL backend: the server ends all sessions and recovers."""
    sessions = [pid for parent in _postgres(system) for pid in _children(parent)]
    return _kill(system, [pid for pid in sessions if "[local]" in _command(pid)])


def wipe_broker(system: System) -> str | None:
    """FLUSHALL: every message is gone."""
    _valkey(system).flushall()
    return "wiped"


def stop_worker(system: System) -> str | None:
    """SIGSTOP of a whole worker past its claims, then SIGCONT."""
    parents = _workers(system, "cpu-")
    if not parents:
        return None
    chosen = system.random.choice(parents)
    family = [chosen, *_children(chosen)]
    for pid in family:
        _signal(pid, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    for pid in family:
        _signal(pid, signal.SIGCONT)
    return f"stopped {chosen} for {STOPPED_SECONDS:g} s"


def repeat_messages(system: System) -> str | None:
    """Messages for batches that are done, running, waiting or not there."""
    p = Producer(system.settings, "soak")
    for _ in range(50):
        p.app.send_task(SCORE, args=[system.random.randint(1, 1_200)], queue=queue("cpu"), retry=False)
    p.close()
    return "50 messages"


FAULTS: dict[str, Callable[[System], str | None]] = {
    "kill -9 of a scoring process": kill_child,
    "kill -9 of a worker": kill_worker,
    "kill -9 of control or plan": kill_control,
    "kill -9 of beat": kill_beat,
    "kill -9 of the broker": kill_broker,
    "kill -9 of PostgreSQL": kill_database,
    "kill -9 of a backend": kill_backend,
    "FLUSHALL": wipe_broker,
    "SIGSTOP past the claim": stop_worker,
    "50 repeated messages": repeat_messages,
}


def _kill(system: System, pids: list[int]) -> str | None:
    if not pids:
        return None
    chosen = system.random.choice(sorted(pids))
    return f"killed {chosen}" if _signal(chosen, signal.SIGKILL) else None


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _workers(system: System, part: str) -> list[int]:
    """Parents of the system's Celery workers whose node name begins so."""
    ours = _family(system.supervisor)
    found = [pid for pid in ours if f" -n {part}" in _command(pid)]
    return [pid for pid in found if _parent_of(pid) not in found]


def _postgres(system: System) -> list[int]:
    """PostgreSQL's parent process."""
    found = [pid for pid in _family(system.supervisor) if _command(pid).split(" ")[0].endswith("/postgres")]
    return [pid for pid in found if _parent_of(pid) not in found]


def _family(pid: int) -> list[int]:
    """All descendants; nothing else is ever touched."""
    return [one for child in _children(pid) for one in (child, *_family(child))]


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _valkey(system: System) -> redis.Redis:
    path = system.settings.broker().partition("://")[2].partition("?")[0]
    return redis.Redis(unix_socket_path=path)

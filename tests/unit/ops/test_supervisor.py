"""The promises of the supervisor about its children, tried with tiny shell programs."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scorebeat.ops.local.interrupts import Interrupts
from scorebeat.ops.local.log import Log
from scorebeat.ops.local.processes import Process, describe
from scorebeat.ops.local.supervisor import FIRST_PAUSE, LIVED, LONGEST_PAUSE, Supervisor
from tests.support.stack_helpers import PATIENCE, alive, wait_for


def shell(name: str, script: str, **options: object) -> Process:
    return Process(name, ("/bin/sh", "-c", script), **options)  # type: ignore[arg-type]  # options of a Process


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Tended:
    """A supervisor, its log as a list of lines, and its clock."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.clock = Clock()
        self.interrupts = Interrupts()
        self.supervisor = Supervisor(Log(self.out), self.interrupts, self.clock)

    @property
    def lines(self) -> list[str]:
        return [line.partition(" ")[2] for line in self.out.getvalue().splitlines()]

    def logged(self, text: str) -> bool:
        self.supervisor.tend()
        return any(text in line for line in self.lines)


@pytest.fixture
def tended() -> Iterator[Tended]:
    tended = Tended()
    with tended.supervisor:
        yield tended


def test_a_child_that_dies_is_shown_and_started_again(tended: Tended) -> None:
    tended.supervisor.start(shell("brief", "echo last words; exit 3"))
    wait_for(lambda: tended.logged("brief ended with status 3; it is started again in 1 s"))

    assert tended.supervisor.tend() == 0, "not before its pause is over"
    tended.clock.now += FIRST_PAUSE
    assert tended.supervisor.tend() == 1

    assert tended.lines == [
        "scorebeat | starting brief",
        "brief     | last words",
        "scorebeat | brief ended with status 3; it is started again in 1 s",
        "scorebeat | starting brief again",
        *tended.lines[4:],
    ]


def test_a_killed_child_is_named_with_its_signal(tended: Tended) -> None:
    tended.supervisor.start(shell("victim", "kill -9 $$"))

    wait_for(lambda: tended.logged("victim killed by SIGKILL"))


def test_the_pause_doubles_up_to_its_bound_and_starts_anew_after_a_long_life(tended: Tended) -> None:
    tended.supervisor.start(shell("brief", "exit 1"))
    for pause in (1, 2, 4, 8, 16, 30, 30):
        wait_for(partial(tended.logged, f"again in {pause} s"))
        tended.out.truncate(0)
        tended.clock.now += pause
        assert tended.supervisor.tend() == 1
    assert LONGEST_PAUSE == 30

    tended.clock.now += LIVED
    wait_for(lambda: tended.logged("again in 1 s"))


def test_a_child_that_is_not_to_be_restarted_stays_ended(tended: Tended) -> None:
    tended.supervisor.start(shell("once", "exit 0", restart=False))
    wait_for(lambda: tended.logged("once ended with status 0"))

    tended.clock.now += 1000

    assert tended.supervisor.tend() == 0
    assert tended.supervisor.ended("once") == "ended with status 0"


def test_a_program_that_is_not_there_is_named_and_tried_again(tended: Tended) -> None:
    tended.supervisor.start(Process("absent", ("/nowhere/program",)))

    wait_for(lambda: tended.logged("absent    | /nowhere/program: No such file or directory"))
    wait_for(lambda: tended.logged("absent ended with status 125; it is started again"))


def test_children_stop_in_the_reverse_order_each_by_its_own_signal(tended: Tended) -> None:
    for name, number in (("first", signal.SIGINT), ("second", signal.SIGTERM)):
        script = f"trap 'echo got it; exit 0' {number.name[3:]}; echo ready; while :; do sleep 0.01; done"
        tended.supervisor.start(shell(name, script, stop=((number, PATIENCE),)))
    wait_for(lambda: tended.lines.count("first     | ready") + tended.lines.count("second    | ready") == 2)

    tended.supervisor.stop()

    assert tended.lines[-6:] == [
        "scorebeat | stopping second",
        "second    | got it",
        "scorebeat | second ended with status 0",
        "scorebeat | stopping first",
        "first     | got it",
        "scorebeat | first ended with status 0",
    ]


def test_a_child_that_ignores_its_signals_is_killed_with_its_own_children(tended: Tended) -> None:
    script = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 0.01; done"
    tended.supervisor.start(shell("deaf", script, stop=((signal.SIGTERM, 0.1),)))
    wait_for(lambda: tended.lines[-1].startswith("deaf "))
    grandchild = int(tended.lines[-1].split()[-1])

    tended.supervisor.stop()

    assert "scorebeat | deaf killed by SIGKILL" in tended.lines
    wait_for(lambda: not alive(grandchild))


def test_a_child_that_dies_takes_its_process_group_along(tended: Tended) -> None:
    tended.supervisor.start(shell("parent", "sleep 1000 & echo $!; kill -9 $$", restart=False))
    wait_for(lambda: tended.logged("parent killed by SIGKILL"))

    grandchild = int(next(line for line in tended.lines if line.startswith("parent  ")).split()[-1])

    wait_for(lambda: not alive(grandchild))


def test_a_second_interrupt_hurries_a_long_grace(tended: Tended) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
    tended.supervisor.start(shell("slow", script, stop=((signal.SIGTERM, 1000.0),)))
    wait_for(lambda: "slow      | ready" in tended.lines)
    tended.interrupts.count = 2

    tended.supervisor.stop()

    assert tended.lines[-1] == "scorebeat | slow killed by SIGKILL"


def test_children_die_with_a_supervisor_that_is_killed() -> None:
    program = (
        "import subprocess, sys, time; from scorebeat.ops.local.processes import *\n"
        "child = Child(Process('c', ('/bin/sleep', '1000')), subprocess.DEVNULL)\n"
        "print(child.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert alive(child)

        supervisor.kill()

    wait_for(lambda: not alive(child))


def test_secrets_of_the_environment_are_not_in_the_title_of_the_process(tended: Tended) -> None:
    secret = {**os.environ, "SCOREBEAT_DATABASE_URL": "postgresql://u:hidden@/d"}
    tended.supervisor.start(shell("quiet", "echo $$ $SCOREBEAT_DATABASE_URL; sleep 1000", env=secret))
    wait_for(lambda: tended.logged("hidden"))

    pid = tended.lines[-1].split()[2]

    assert "hidden" not in Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.parametrize(
    ("status", "words"), [(0, "ended with status 0"), (-9, "killed by SIGKILL"), (-63, "killed by signal 63")]
)
def test_an_end_is_described_in_words(status: int, words: str) -> None:
    assert describe(status) == words


def test_a_signal_before_the_work_leaves_it_at_once() -> None:
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: interrupts.stopping)
        with pytest.raises(KeyboardInterrupt), interrupts.raising():
            pytest.fail("the work must not begin")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

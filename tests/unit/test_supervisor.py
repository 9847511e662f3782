"""What the supervisor promises about its children, tried with tiny shell programs."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from ops.stack.interrupts import Interrupts
from ops.stack.log import LONGEST_LINE, Log
from ops.stack.process import Process, describe
from ops.stack.supervisor import FIRST_PAUSE, LIVED, LONGEST_PAUSE, Supervisor

PATIENCE = 20.0


def wait_for(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, "the fact never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def shell(name: str, script: str, **options: object) -> Process:
    return Process(name, ("/bin/sh", "-c", script), **options)  # type: ignore[arg-type]  # options as given


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

    def said(self, text: str) -> bool:
        self.supervisor.tend()
        return any(text in line for line in self.lines)


@pytest.fixture
def tended() -> Iterator[Tended]:
    tended = Tended()
    with tended.supervisor:
        yield tended


def test_a_child_that_dies_is_shown_and_started_again(tended: Tended) -> None:
    tended.supervisor.start(shell("brief", "echo last words; exit 3"))
    wait_for(lambda: tended.said("brief ended with status 3; it is started again in 1 s"))

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

    wait_for(lambda: tended.said("victim killed by SIGKILL"))


def test_the_pause_doubles_up_to_its_bound_and_starts_anew_after_a_long_life(tended: Tended) -> None:
    tended.supervisor.start(shell("brief", "exit 1"))
    for pause in (1, 2, 4, 8, 16, 30, 30):
        wait_for(partial(tended.said, f"again in {pause} s"))
        tended.out.truncate(0)
        tended.clock.now += pause
        assert tended.supervisor.tend() == 1
    assert LONGEST_PAUSE == 30

    tended.clock.now += LIVED
    wait_for(lambda: tended.said("again in 1 s"))


def test_a_child_that_is_not_to_be_restarted_stays_ended(tended: Tended) -> None:
    tended.supervisor.start(shell("once", "exit 0", restart=False))
    wait_for(lambda: tended.said("once ended with status 0"))

    tended.clock.now += 1000

    assert tended.supervisor.tend() == 0
    assert tended.supervisor.ended("once") == "ended with status 0"


def test_a_program_that_is_not_there_is_named_and_tried_again(tended: Tended) -> None:
    tended.supervisor.start(Process("absent", ("/nowhere/program",)))

    wait_for(lambda: tended.said("absent    | /nowhere/program: No such file or directory"))
    wait_for(lambda: tended.said("absent ended with status 125; it is started again"))


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
    wait_for(lambda: tended.said("parent killed by SIGKILL"))

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
        "import subprocess, sys, time; from ops.stack.process import *\n"
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
    wait_for(lambda: tended.said("hidden"))

    pid = tended.lines[-1].split()[2]

    assert "hidden" not in Path(f"/proc/{pid}/cmdline").read_text()


def followed(output: bytes, form: str = "text") -> list[str]:
    out = io.StringIO()
    log = Log(out, form, now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))  # type: ignore[arg-type]
    log.follow("worker", io.BytesIO(output)).join(PATIENCE)
    return out.getvalue().splitlines()


def test_each_line_of_the_log_says_when_and_who() -> None:
    assert followed(b"one\ntwo\r\n") == ["03:04:05 worker    | one", "03:04:05 worker    | two"]


def test_a_line_that_brings_its_own_time_is_not_given_another() -> None:
    assert followed(b"01:02:03 INFO  run.planned\n") == ["01:02:03 worker    | INFO  run.planned"]


def test_the_log_keeps_partial_lines_and_bytes_that_are_no_text() -> None:
    assert followed(b"caf\xe9\nno end") == ["03:04:05 worker    | caf\ufffd", "03:04:05 worker    | no end"]


def test_a_line_without_end_is_shown_in_pieces() -> None:
    assert [len(line) for line in followed(b"x" * (LONGEST_LINE + 1))] == [21 + LONGEST_LINE, 22]


def test_json_lines_pass_through_with_the_process_name_and_others_are_wrapped() -> None:
    passed, wrapped, number = (json.loads(line) for line in followed(b'{"event": "claimed"}\nplain\n7\n', "json"))

    assert passed == {"process": "worker", "event": "claimed"}
    assert wrapped == {
        "process": "worker",
        "time": "2026-01-02T03:04:05.000+00:00",
        "event": "log",
        "message": "plain",
    }
    assert number["message"] == "7"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_and_obeys_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        Log(stream).write("beat", "tick")

    assert ("\x1b[" in terminal.getvalue()) is coloured
    assert "\x1b[" not in pipe.getvalue()


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    log = Log(os.fdopen(write, "w"))

    log.write("beat", "tick")
    log.write("beat", "tick")


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

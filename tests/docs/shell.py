"""A reader at a terminal: saves the files that a page shows, types its commands, compares what comes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scorebeat.core.settings import PREFIX
from tests.docs.pages import Block, Command, Page, commands, shows
from tests.support.fork_server import FORKS

QUICK = {"CLAIM_TTL": "3s", "HEARTBEAT": "1s", "RESEND_AFTER": "2s"}
"""A dead worker's claims expire sooner than the pages document."""
ONE_COMMAND = 180.0
MARK = "--- end of a command, exit code"


@dataclass
class Reader:
    """One reader with a folder of its own; what keeps running is stopped when the reader leaves."""

    folder: Path
    forks: bool = True
    """The commands are forks of a process that has imported theirs; else each is a new Python, as a reader has it."""
    running: list[tuple[Command, "subprocess.Popen[bytes]"]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        forked = [str(FORKS.commands())] if self.forks else []
        path = os.pathsep.join([*forked, str(Path(sys.executable).parent), kept["PATH"]])
        return kept | {"PATH": path} | {f"{PREFIX}{name}": value for name, value in QUICK.items()}

    def follow(self, page: Page) -> None:
        """Run all commands of the page, in its order."""
        for block in page.blocks:
            if block.file is not None:
                (self.folder / block.file).write_text(block.text, "utf-8")
            elif block.language == "console" and not block.note.startswith("not run: "):
                self.type(block)

    def save(self, page: Page, *names: str) -> None:
        """Save files that the page shows."""
        for name in names:
            (self.folder / name).write_text(next(b.text for b in page.blocks if b.file == name), "utf-8")

    def type(self, block: Block) -> None:
        """Type the commands of a block into one shell; each must end well and show what the page shows."""
        typed = commands(block)
        if block.note == "keeps running":
            self._start(typed[0])
        elif block.note == "repeated until it says so":
            for command in typed:
                self._repeat(command)
        else:
            wanted = int(block.note.removeprefix("ends with ")) if block.note.startswith("ends with ") else 0
            for command, (code, output) in zip(typed, self._run(typed), strict=True):
                _compare(command, code, output, wanted)

    def shell(self, script: str, within: float = ONE_COMMAND) -> "subprocess.CompletedProcess[str]":
        """Run a script in the reader's folder; fails the test when it takes too long."""
        command = ["bash", "-c", script]
        try:
            return subprocess.run(
                command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=within,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            pytest.fail(f"not done in {within:g} s: {script}\n{late.stdout!r}\n{late.stderr!r}\n{self.logs()}")

    def _run(self, typed: list[Command]) -> list[tuple[int, str]]:
        """Exit code and output of each command; the notes for people, on standard error, are not compared."""
        done = self.shell("".join(f"{c.text}\ncode=$?; echo; echo '{MARK}' $code\n" for c in typed))
        sys.stderr.write(done.stderr)
        first, *rest = done.stdout.split(f"\n{MARK} ")
        codes, following = zip(*(part.split("\n", 1) for part in rest), strict=True)
        return list(zip(map(int, codes), [first, *following[:-1]], strict=True))

    def _repeat(self, command: Command) -> None:
        deadline = time.monotonic() + ONE_COMMAND
        while True:
            ((code, output),) = self._run([command])
            if code == 0 and shows(command.output, output):
                return
            if time.monotonic() > deadline:
                _compare(command, code, output)
            time.sleep(0.5)

    def _start(self, command: Command) -> None:
        """Returns when the command has printed what the page shows."""
        log = self.folder / f"{len(self.running)}.log"
        with log.open("wb") as output:
            shell = ["bash", "-c", f"exec {command.text}"]
            process = subprocess.Popen(
                shell, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.running.append((command, process))
        deadline = time.monotonic() + ONE_COMMAND
        while not shows(command.output, log.read_text("utf-8", "replace")):
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail(f"{command} never printed what the page shows:\n{log.read_text('utf-8', 'replace')}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ctrl-C for everything that runs, the newest first; ours must end with 0."""
        ended: dict[str, int | None] = {}
        for command, process in reversed(self.running):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):  # what does not stop is killed, and the rest is still stopped
                process.wait(ONE_COMMAND)
            ended[command.text] = process.poll()
            process.kill()
            process.wait()
        ours = [code for text, code in ended.items() if text.startswith("scorebeat ")]
        assert ours == [0] * len(ours), f"{ended}\n{self.logs()}"

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-4000:]}" for log in self._logs())

    def _logs(self) -> list[Path]:
        return sorted(self.folder.glob("*.log"))


@contextmanager
def reader(folder: Path, *, forks: bool = True) -> Iterator[Reader]:
    folder.mkdir()
    one = Reader(folder, forks)
    try:
        yield one
    finally:
        one.stop()


def _compare(command: Command, code: int, output: str, wanted: int = 0) -> None:
    assert code == wanted, f"{command}\nended with {code} and printed\n{output}"
    expected = "\n".join(command.output)
    # a page that shows no output leaves it out
    assert not command.output or shows(command.output, output), (
        f"{command}\nshould print\n{expected}\nand printed\n{output}"
    )

"""The promises of the one log of many processes."""

import io
import json
import os
from datetime import UTC, datetime

import pytest

from scorebeat.ops.local.log import LONGEST_LINE, Log
from tests.support.stack_helpers import PATIENCE


def followed(output: bytes, form: str = "text") -> list[str]:
    out = io.StringIO()
    log = Log(out, form, now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))  # type: ignore[arg-type]
    log.follow("worker", io.BytesIO(output)).join(PATIENCE)
    return out.getvalue().splitlines()


def test_each_line_of_the_log_has_its_time_and_process() -> None:
    assert followed(b"one\ntwo\r\n") == ["03:04:05 worker    | one", "03:04:05 worker    | two"]


def test_a_line_that_has_its_own_time_gets_no_other() -> None:
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

"""Commands print one line a value, in words that people write, and never commands a terminal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from scorebeat.core.states import RunState
from scorebeat.db.reports.status import RunLine
from scorebeat.ops.cli import output, progress

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN = RunLine(
    id=1204, job="iris", model="iris", model_version=3, state=RunState.RUNNING, rows_planned=2000, rows_scored=500,
    rows_failed=0, batches=4, batches_open=3, batches_dead=0, created_at=STARTED, created_by="ann", due_at=None,
    deadline_at=None, planned_at=None, finished_at=None, reason=None, queue="cpu",
)  # fmt: skip


def ended(state: RunState, **changes: object) -> RunLine:
    return replace(RUN, state=state, finished_at=STARTED + timedelta(seconds=10), **changes)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (12, "12 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations_are_written_as_people_write_them(seconds: float, words: str) -> None:
    assert output.cell(timedelta(seconds=seconds)) == words


def test_a_value_stays_on_its_line_and_controls_no_terminal() -> None:
    assert output.cell("red\x1b[31m\nnext\u2028line\x9b") == "red [31m next line "
    assert output.cell("right\u2069\u202eleft") == "right[U+2069][U+202E]left"
    assert output.cell(1204) == "1,204"


def test_a_table_shows_ids_plainly_and_leaves_empty_columns_out(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(
        [{"id": 1204, "rows": 1204, "reason": None, "job": "[bold]x[/bold]"}], ("id", "rows", "reason", "job"), ""
    )

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["id", "rows", "job"], ["1204", "1,204", "[bold]x[/bold]"]]


def test_a_long_value_stays_on_one_line_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([{"error": "x" * 500}], ("error",), "")
    assert "x" * 500 in capsys.readouterr().out.splitlines()[1]


def test_lines_are_printed_once_for_a_state_and_not_for_every_row() -> None:
    printed: list[str] = []
    lines = progress.Lines(printed.append)
    for rows in (0, 1, 2):
        lines.show(replace(RUN, rows_scored=rows))
    lines.show(ended(RunState.SUCCEEDED, rows_scored=2000))
    lines.show(ended(RunState.SUCCEEDED, rows_scored=2000))

    assert printed == ["run 1204 iris running: 0 of 2,000 rows", "run 1204 iris succeeded: 2,000 of 2,000 rows"]


def test_a_terminal_gets_a_bar() -> None:
    out = StringIO()
    with progress.Bars(Console(file=out, force_terminal=True, width=100)) as bars:
        bars.show(RUN)

    assert "run 1204 iris running" in out.getvalue()
    assert "500/2000" in out.getvalue()


@pytest.mark.parametrize("state", [RunState.PARTIAL, RunState.FAILED, RunState.CANCELLED])
def test_only_a_run_that_succeeded_ends_with_0(state: RunState) -> None:
    bad = ended(state, reason="the disk\nis full", rows_failed=3)

    assert progress.exit_code(bad) == 1
    assert progress.exit_code(ended(RunState.SUCCEEDED)) == 0
    assert progress.summary(bad) == (
        f"run 1204 {state}: the disk is full\n500 rows scored, 3 quarantined in 10 s, 50 rows/s, model iris/3"
    )


def test_nothing_pending_is_reported() -> None:
    text = progress.summary(ended(RunState.SUCCEEDED, batches=0, rows_scored=0))

    assert text == (
        "run 1204: nothing is pending: job iris's query gave no row that model iris/3 has not handled"
    )  # true of an empty query, too

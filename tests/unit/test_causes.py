"""What a batch's error says of the process that died with it."""

import pytest
from billiard.exceptions import WorkerLostError

from scorebeat.worker.signals import _cause

HUNG = "took longer than its time limit"


def test_the_watchdogs_exit_is_told_as_a_model_that_hung() -> None:
    assert HUNG in _cause(WorkerLostError("Worker exited prematurely: exitcode 1 Job: 3."))


@pytest.mark.parametrize("how", ["exitcode 11", "exitcode 137", "exitcode 3", "signal 9 (SIGKILL)"])
def test_another_death_is_not_told_as_a_hang(how: str) -> None:
    assert HUNG not in _cause(WorkerLostError(f"Worker exited prematurely: {how} Job: 3."))

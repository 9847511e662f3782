"""Threads take turns in a model, unless it declares that it takes several; one that hangs does not stop the others."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock

import pyarrow as pa
import pytest

from scorebeat.core.errors import ServiceDown
from scorebeat.online.predictor import Turns


class Counting:
    """Returns how many threads were in it at once."""

    outputs = pa.schema([("y", pa.float64())])

    def __init__(self, *, thread_safe: bool) -> None:
        self.thread_safe = thread_safe
        self.inside = self.most = 0
        self.lock = Lock()
        self.all_here = Barrier(4)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        if self.thread_safe:
            self.all_here.wait(60)
        with self.lock:
            self.inside -= 1
        return rows


ROWS = pa.record_batch({"y": [1.0]})


@pytest.mark.parametrize(("thread_safe", "most"), [(False, 1), (True, 4)])
def test_one_thread_at_a_time_is_in_a_model_unless_it_takes_several(thread_safe: bool, most: int) -> None:
    model = Counting(thread_safe=thread_safe)
    turns = Turns(model)

    def once(_at: int) -> None:
        with turns.turn(60, "m/1") as mine:
            mine.predict(ROWS)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(once, range(4)))

    assert model.most == most


def test_a_caller_that_does_not_get_the_model_in_time_gets_an_error() -> None:
    turns, entered, leave = Turns(Counting(thread_safe=False)), Event(), Event()

    def stay() -> None:
        with turns.turn(60, "m/1"):
            entered.set()
            leave.wait(60)

    with ThreadPoolExecutor(1) as threads:
        staying = threads.submit(stay)
        entered.wait(60)
        with pytest.raises(ServiceDown, match=r"m/1 makes one prediction at a time, and was not free within 0\.01 s"):
            turns.turn(0.01, "m/1").__enter__()
        assert turns.hangs(0)
        assert not turns.hangs(60)
        leave.set()
        staying.result()

    assert not turns.hangs(0)


def test_an_error_in_the_model_ends_the_turn() -> None:
    turns = Turns(Counting(thread_safe=False))

    with pytest.raises(ZeroDivisionError), turns.turn(60, "m/1"):
        raise ZeroDivisionError

    with turns.turn(0.01, "m/1"):
        assert turns.hangs(-1)

"""Which batches of a run are looked at."""

from hypothesis import given
from hypothesis import strategies as st

from scorebeat.drift.profile import SAMPLE
from scorebeat.drift.sampled_batches import ENOUGH_ROWS, is_looked_at, step

FULL = st.integers(1, 1_000_000)


@given(st.integers(1, 5_000), FULL)
def test_a_batch_that_is_kept_at_the_end_was_looked_at_when_it_was_scored(batches: int, batch_rows: int) -> None:
    kept = range(step(batches, batch_rows), batches + 1, step(batches, batch_rows))

    assert all(is_looked_at(number, batch_rows) for number in kept)


@given(st.integers(1, 10**9), FULL)
def test_a_long_run_keeps_enough_rows_and_a_short_one_all_that_were_sampled(batches: int, batch_rows: int) -> None:
    sampled = min(SAMPLE, batch_rows)
    rows = batches // step(batches, batch_rows) * sampled

    assert rows == batches * sampled if batches * sampled <= ENOUGH_ROWS - SAMPLE else rows >= ENOUGH_ROWS // 2 - SAMPLE


def test_of_a_thousand_small_batches_a_fifth_is_looked_at() -> None:
    assert sum(is_looked_at(number, 500) for number in range(1, 1_001)) == 190

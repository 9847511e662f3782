"""The role that runs everything and owns nothing reads the truth, and stores and replaces what it computed."""

import pytest

from scorebeat.producer.control.upkeep import quality as nightly
from tests.support.roles_fixtures import LockedPoints, locked, roles

__all__ = ["locked", "roles"]


def test_the_role_of_runs_reads_the_truth_and_stores_the_figures(locked: LockedPoints) -> None:
    locked.fill(20)
    locked.model({})
    locked.scored(locked.job(truth="SELECT id, x AS label FROM points"))
    for label in (2, 3):
        locked.sql("UPDATE scorebeat.truth_readings SET next_at = now()")
        assert nightly.run_once(locked.acting) == 1
        ((rows, mae),) = locked.sql("SELECT rows, (metrics ->> 'mae')::float8 FROM scorebeat.quality")
        assert (rows, mae) == (20, pytest.approx(locked.sql("SELECT avg(abs(2 * id + 1 - x)) FROM points")[0]))
        locked.sql("UPDATE points SET x = :label", label=label)

"""A key that became wider, where runs have a role that owns nothing: refused with the command, which then does it."""

import pytest

from scorebeat.core.errors import NotPermitted
from scorebeat.core.states import RunState
from scorebeat.producer.requests.apply import apply
from tests.support.poison_fixtures import MODEL
from tests.support.roles_fixtures import LockedPoints, locked, roles

__all__ = ["locked", "roles"]


@pytest.mark.slow
def test_a_key_that_becomes_wider_is_followed_by_apply_of_the_owner(locked: LockedPoints) -> None:
    locked.fill(20)
    locked.sql("ALTER TABLE points ALTER id TYPE int4")
    locked.model({})
    job = locked.job()
    assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED
    locked.sql(f"GRANT SELECT ON predictions.{job.name} TO PUBLIC")
    locked.sql("ALTER TABLE points ALTER id TYPE int8")
    locked.sql("INSERT INTO points VALUES (5000000000, 7)")

    with pytest.raises(NotPermitted, match=r"id bigint\) now, wider than \(id integer\).*`scorebeat apply`"):
        locked.planned(job)
    apply(locked.producer, [job], "ann")

    assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED
    assert len(locked.view(job)) == 21
    assert locked.as_runner(f"SELECT count(*) FROM predictions.{job.name} WHERE id = 5000000000") == [(1,)]
    (owner,) = locked.sql("SELECT viewowner FROM pg_views WHERE viewname = :job", job=job.name)
    assert owner == locked.roles.holder
    assert MODEL in job.model


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("kind", ["numeric(20,0)", "citext", "inet"])
def test_the_role_that_runs_stores_keys_of_every_kind(locked: LockedPoints, kind: str) -> None:
    locked.sql("CREATE EXTENSION citext")
    locked.fill(20)
    cast = "'10.0.0.0'::inet + id" if kind == "inet" else f"id::text::{kind}"
    locked.sql(f"ALTER TABLE points ALTER id TYPE {kind} USING {cast}")
    locked.model({})
    job = locked.job()

    assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED
    assert locked.sql(f"SELECT count(*) FROM points JOIN predictions.{job.name} USING (id) WHERE value = 2 * x") == [20]

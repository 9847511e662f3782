"""A role that may act as the ledger's owner owns nothing: its new objects are the owner's, and all may use them."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import make_url

from scorebeat.core.errors import NotPermitted
from scorebeat.core.states import RunState
from scorebeat.db.schema import revisions
from scorebeat.db.schema import roles as rights
from scorebeat.ops.local import prepare
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from tests.support.roles_fixtures import BEFORE_FUNCTIONS, PASSWORD, LockedPoints, locked, roles

pytestmark = pytest.mark.wide

__all__ = ["locked", "roles"]

OWNERS = (
    "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relkind IN ('r', 'v', 'S')"
    " AND relnamespace IN ('scorebeat'::regnamespace, 'predictions'::regnamespace)"
    " UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'scorebeat'::regnamespace"
)
"""Of everything in both schemas."""

Acting = Callable[[str], Producer]


@pytest.fixture
def acting(locked: LockedPoints) -> Iterator[Acting]:
    """A producer under the superuser, or under a new role that is a member of the owner."""
    made: list[Producer] = []

    def start(who: str) -> Producer:
        url = locked.roles.admin
        if who != "superuser":
            name = f"{locked.roles.holder}_ann"
            locked.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
            locked.sql(f"GRANT {locked.roles.holder} TO {name} {who.removeprefix('member ')}")
            locked.sql(f"GRANT SELECT ON points TO {name}")
            url = make_url(url).set(username=name, password=PASSWORD).render_as_string(hide_password=False)
        made.append(Producer(locked.settings.model_copy(update={"database_url": url}), who))
        return made[-1]

    yield start
    for one in made:
        one.close()


def lacks(locked: LockedPoints) -> list[str]:
    with locked.runner.engine.connect() as connection:
        return rights.missing(connection)


@pytest.mark.parametrize("who", ["superuser", "member "])
@pytest.mark.parametrize("rescore", ["never", "every-run"])
def test_a_version_published_by_a_superuser_or_a_member_is_scored_and_read(
    locked: LockedPoints, acting: Acting, who: str, rescore: str
) -> None:
    locked.fill(30)
    locked.model({})
    job = locked.job(rescore=rescore)
    locked.scored(job)
    owner, locked.producer = locked.producer, acting(who)

    locked.model({}, another=2)
    assert locked.publish(2) == ["points_job"]
    late = locked.job(name="late")
    locked.producer = owner

    for one in (late, job):
        apply(owner, [job, late], "ann")
        assert locked.run(locked.scored(one)).state is RunState.SUCCEEDED
        assert locked.as_runner(f"SELECT count(*) FROM predictions.{one.name}") == [(30,)]
    assert locked.sql(OWNERS) == [locked.roles.holder]
    prepare.migrate(owner, locked.roles.runner)
    assert lacks(locked) == []


@pytest.mark.parametrize("who", ["superuser", "member "])
def test_a_table_that_an_enqueue_of_theirs_makes_is_the_owners(locked: LockedPoints, acting: Acting, who: str) -> None:
    locked.fill(10)
    locked.model({})
    locked.model({}, another=2)
    job = locked.job()

    run = enqueue(acting(who), Request(job.name, "ann", version=2)).run_id

    plan(locked.runner, run)
    assert locked.work(run) is RunState.SUCCEEDED
    assert locked.sql(OWNERS) == [locked.roles.holder]


@pytest.mark.parametrize("who", ["superuser", "member "])
def test_objects_made_by_anothers_migrate_are_the_owners_and_runs_go_on(
    locked: LockedPoints, acting: Acting, who: str
) -> None:
    locked.fill(10)
    locked.model({})
    job = locked.job(rescore="every-run")
    locked.forget_functions()

    assert prepare.migrate(acting(who)).changed

    assert locked.sql(OWNERS) == [locked.roles.holder]
    assert lacks(locked) == []
    assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED
    with pytest.raises(Exception, match="has all rights of the ledger's owner"):
        prepare.migrate(locked.producer, locked.roles.holder)


def test_a_member_that_may_not_act_as_the_owner_is_refused_before_anything_is_made(
    locked: LockedPoints, acting: Acting
) -> None:
    if locked.sql("SELECT current_setting('server_version_num')::int < 160000") == [True]:
        pytest.skip("before PostgreSQL 16 every member may")
    locked.fill(10)
    locked.model({})
    ann, owner = acting("member WITH SET FALSE"), locked.producer
    locked.producer = ann

    with pytest.raises(NotPermitted, match=f"_ann' may not add a model.*{locked.roles.holder}"):
        locked.model({}, another=2)
    with pytest.raises(NotPermitted, match="only the ledger's owner"):
        locked.job()
    locked.forget_functions()
    with pytest.raises(NotPermitted, match="_ann' may not migrate the ledger; nothing was changed"):
        prepare.migrate(ann)

    assert locked.sql("SELECT version_num FROM scorebeat.alembic_version") == [BEFORE_FUNCTIONS]
    assert prepare.migrate(owner).changed
    assert locked.sql(OWNERS) == [locked.roles.holder]


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE VIEW predictions.report AS SELECT 1 AS one",
        "CREATE TABLE scorebeat.notes (a int)",
        "CREATE FUNCTION scorebeat.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_foreign_objects_in_the_schemas_keep_no_migration_from_granting_rights(
    locked: LockedPoints, foreign: str
) -> None:
    locked.fill(10)
    locked.model({})
    locked.job()
    locked.sql(foreign)
    if "FUNCTION" in foreign:
        locked.sql("GRANT EXECUTE ON FUNCTION scorebeat.mine() TO pg_monitor")
    locked.forget_functions()
    locked.sql(f"REVOKE INSERT ON predictions.points_job__poison_v1 FROM {locked.roles.runner}")

    assert prepare.migrate(locked.producer).changed

    assert lacks(locked) == []
    assert locked.sql("SELECT has_table_privilege('pg_monitor', 'scorebeat.runs', 'SELECT')") == [False]


def test_rights_that_cannot_be_granted_are_reported_apart_from_the_migration(locked: LockedPoints) -> None:
    locked.sql("ALTER SCHEMA predictions OWNER TO CURRENT_USER")
    locked.downgrade("-1")

    with pytest.raises(NotPermitted) as refused:
        prepare.migrate(locked.producer)

    message = str(refused.value)
    assert message.startswith(
        "the ledger was migrated, but no rights were given or taken: permission denied for schema"
    )
    assert "hanged" not in message
    with locked.engine.connect() as connection:
        assert revisions.revision(connection) == revisions.newest()

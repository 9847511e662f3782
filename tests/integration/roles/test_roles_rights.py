"""The page about least rights has the SQL that is run, and the rights of the role are those of the page."""

import re
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from scorebeat.db.connect.engine import make_engine
from scorebeat.db.schema import roles as rights
from scorebeat.db.schema.functions import FUNCTIONS
from scorebeat.ops.cli.app import cli
from scorebeat.ops.local import prepare
from scorebeat.producer.context import Producer
from tests.docs.pages import REPOSITORY, Block, Page, commands
from tests.support.fixtures import environment
from tests.support.roles_fixtures import LockedPoints, locked, roles

__all__ = ["locked", "roles"]

PAGE = Page.read(REPOSITORY / "docs/how-to/least-rights.md")
MAKE, BY_HAND = (block for block in PAGE.blocks if block.language == "sql")

HAS = """
SELECT n.nspname || '.' || c.relname || ': ' || g.privilege_type FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) g WHERE g.grantee = CAST(:role AS regrole)
UNION ALL SELECT n.nspname || '.' || c.relname || '.' || a.attname || ': ' || g.privilege_type FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(a.attacl) g
    WHERE g.grantee = CAST(:role AS regrole)
UNION ALL SELECT 'function ' || p.proname || ': ' || g.privilege_type FROM pg_proc p, aclexplode(p.proacl) g
    WHERE g.grantee = CAST(:role AS regrole)
UNION ALL SELECT 'schema ' || n.nspname || ': ' || g.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) g
    WHERE g.grantee = CAST(:role AS regrole)
UNION ALL SELECT 'to come in ' || d.defaclnamespace::regnamespace || ': ' || g.privilege_type
    FROM pg_default_acl d, aclexplode(d.defaclacl) g WHERE g.grantee = CAST(:role AS regrole)
"""
"""Everything that was granted to a role in this database."""


OF_PREDICTIONS = r"^(schema |to come in )?predictions\b.*: (?!SELECT|INSERT|USAGE)"
"""More than reading and adding, of the schema or a table in it."""


def has(engine: Engine, role: str) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(text(HAS), {"role": role}).scalars())


def statements(block: Block) -> Iterator[str]:
    yield from filter(None, (" ".join(part.split()) for part in block.text.split(";")))


def test_the_page_has_the_statements_that_migrate_runs() -> None:
    assert list(statements(BY_HAND)) == rights.statements("scorebeat_run")


def test_the_pages_sql_makes_two_roles_that_are_enough(locked: LockedPoints) -> None:
    named = {"scorebeat_owner": "page_owner", "scorebeat_run": "page_run", "customers": "points"}
    locked.fill(3)
    database = str(locked.engine.url.database)

    for statement in statements(MAKE):
        locked.sql(re.sub("|".join(named), lambda found: named[found[0]], statement).replace("shop", database))

    assert has(locked.engine, "page_run") == {"public.points: SELECT", "schema public: USAGE"}
    assert locked.sql(
        "SELECT rolname, rolsuper, has_database_privilege(oid, current_database(), 'CREATE') FROM pg_roles"
        " WHERE rolname IN ('page_owner', 'page_run') ORDER BY rolname"
    ) == [("page_owner", False, True), ("page_run", False, False)]
    owner = Producer(locked.settings.model_copy(update={"database_url": _as(locked, "page_owner")}), "owner")
    with owner.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM points").scalar_one() == 3
    owner.close()


def test_the_granted_rights_are_those_of_the_page_whatever_the_role_had(locked: LockedPoints) -> None:
    locked.fill(10)
    locked.model({})
    locked.scored(locked.job(rescore="every-run"))
    by_hand = f"{locked.roles.runner}_by_hand"
    locked.sql(f"CREATE ROLE {by_hand} LOGIN PASSWORD 'of-a-test'")
    locked.sql(f"GRANT SELECT ON points TO {by_hand}")
    locked.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA scorebeat, predictions TO {by_hand}, {locked.roles.runner}")

    with locked.producer.engine.begin() as connection:
        for statement in statements(BY_HAND):
            connection.exec_driver_sql(statement.replace("scorebeat_run", by_hand))
    prepare.migrate(locked.producer, locked.roles.runner)

    rights = has(locked.engine, locked.roles.runner)
    assert rights == has(locked.engine, by_hand)
    assert "predictions.points_job__poison_v1_g1: INSERT" in rights
    assert {right for right in rights if right.endswith(": DELETE")} == {
        "scorebeat.batch_profiles: DELETE",
        "scorebeat.quarantine: DELETE",
        "scorebeat.run_profiles: DELETE",
        "scorebeat.workers: DELETE",
    }
    assert {right for right in rights if re.search(OF_PREDICTIONS, right)} == set()


def test_migrate_names_the_role_as_the_page_shows_it(locked: LockedPoints, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(locked.producer.settings).items():
        if name.startswith("SCOREBEAT_"):
            monkeypatch.setenv(name, value)
    shown = next(command for block in PAGE.blocks if block.language == "console" for command in commands(block))
    assert shown.text == "scorebeat migrate --run-role scorebeat_run"

    result = CliRunner().invoke(cli, ["migrate", "--run-role", locked.roles.runner])

    assert result.output.splitlines() == [
        "the ledger is up to date",
        shown.output[1].replace("scorebeat_run", locked.roles.runner),
    ]


def test_every_function_of_the_owner_is_explained() -> None:
    listed = re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE.path.read_text("utf-8"), re.MULTILINE)

    assert listed == [signature.partition("(")[0] for signature in FUNCTIONS]


def test_every_function_of_the_owner_has_a_fixed_search_path_and_is_closed(locked: LockedPoints) -> None:
    found = locked.sql(
        "SELECT p.proname, p.prosecdef, p.proconfig, has_function_privilege('pg_monitor', p.oid, 'EXECUTE')"
        " FROM pg_proc p WHERE p.pronamespace = 'scorebeat'::regnamespace AND p.prosecdef"
    )

    assert {name for name, *_ in found} == {signature.partition("(")[0] for signature in FUNCTIONS}
    assert {(defined, tuple(path), open_) for _, defined, path, open_ in found} == {
        (True, ("search_path=pg_catalog, pg_temp",), False)
    }


def test_only_one_function_takes_sql_and_it_has_the_rights_of_its_caller(locked: LockedPoints) -> None:
    found = locked.sql("SELECT proname FROM pg_proc WHERE pronamespace = 'scorebeat'::regnamespace AND NOT prosecdef")

    assert found == ["rows_read_only"]


def _as(points: LockedPoints, role: str) -> str:
    url = make_engine(points.roles.admin).url.set(drivername="postgresql", username=role, password="...")
    return url.render_as_string(hide_password=False)

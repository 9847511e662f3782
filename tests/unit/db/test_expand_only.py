"""Migrations after a release only expand, so that the release's programs go on beside them, or name what they end."""

import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from scorebeat.db.schema import migrate
from scorebeat.db.schema.migrations.releases import RELEASED, contracted
from tests.support.expand import refusals
from tests.support.fixtures import REPOSITORY
from tests.support.later import Later, later

pytestmark = pytest.mark.wide(quick=5)

__all__ = ["later"]

FIRST = RELEASED["0.1"]
VERSIONS = REPOSITORY / "db/schema/migrations/versions"
ALLOWED = [
    'op.execute("ALTER TABLE scorebeat.batches ADD COLUMN cost bigint")',
    "op.execute(\"ALTER TABLE scorebeat.runs ADD COLUMN note text NOT NULL DEFAULT 'none'\")",
    'op.execute("CREATE TABLE scorebeat.costs (run_id bigint PRIMARY KEY, CHECK (run_id > 0))")',
    'op.execute("CREATE INDEX costs_of_run ON scorebeat.costs (run_id)")',
    'op.execute("ALTER TABLE scorebeat.batches ADD CONSTRAINT batches_cost_check CHECK (cost > 0) NOT VALID")',
    'op.execute("ALTER TABLE scorebeat.batches VALIDATE CONSTRAINT batches_cost_check")',
    'op.execute("ALTER TABLE scorebeat.runs DROP CONSTRAINT a, ADD CONSTRAINT a CHECK (tries > 0) NOT VALID")',
    'op.execute("ALTER TABLE scorebeat.batches ALTER COLUMN queue DROP NOT NULL")',
    "op.execute(\"COMMENT ON COLUMN scorebeat.batches.queue IS 'DROP it, or RENAME it'\")",
    'op.execute("CREATE FUNCTION scorebeat.f() RETURNS void LANGUAGE sql AS $$ DROP TABLE scorebeat.batches $$")',
    'create_index("batches_by_cost", "batches", ["cost"])',
]
REFUSED = [
    'op.drop_column("batches", "device", schema="scorebeat")',
    'op.drop_table("actions", schema="scorebeat")',
    'op.execute("DROP VIEW scorebeat.run_status")',
    'op.execute("DROP FUNCTION scorebeat.show_run")',
    'op.drop_constraint("batches_state_check", "batches", schema="scorebeat")',
    'op.execute("ALTER TABLE scorebeat.runs ALTER COLUMN tries DROP DEFAULT")',
    'op.alter_column("runs", "job", new_column_name="work", schema="scorebeat")',
    'op.execute("ALTER TABLE scorebeat.batches ALTER COLUMN number TYPE bigint")',
    'op.execute("ALTER TABLE scorebeat.batches ALTER COLUMN device SET NOT NULL")',
    'op.execute("ALTER TABLE scorebeat.batches ADD COLUMN cost bigint NOT NULL")',
    'op.execute("ALTER TABLE scorebeat.batches ADD COLUMN cost float DEFAULT random()")',
    'op.execute("ALTER TABLE scorebeat.batches ADD COLUMN more bigserial")',
    'op.execute("ALTER TABLE scorebeat.batches ADD CHECK (number > 0)")',
    'op.execute("ALTER TABLE scorebeat.runs DROP CONSTRAINT a, ADD CONSTRAINT b CHECK (tries > 0) NOT VALID")',
    'op.execute("ALTER TABLE scorebeat.runs ADD CONSTRAINT u UNIQUE (created_at)")',
    'op.create_index("batches_by_number", "batches", ["number"], schema="scorebeat")',
    'op.execute("CREATE UNIQUE INDEX q ON scorebeat.quarantine (id)")',
    'op.execute("UPDATE scorebeat.batches SET error = NULL")',
    'op.execute("LOCK TABLE scorebeat.runs")',
    'op.execute("REVOKE SELECT ON scorebeat.runs FROM PUBLIC")',
]


def test_every_migration_since_the_first_release_only_expands_or_declares_an_end() -> None:
    assert refusals(FIRST) == []


def test_no_migration_that_was_released_was_changed() -> None:
    lines = (REPOSITORY / "tests/support/released.sha256").read_text().splitlines()
    listed = {file: digest for digest, file in map(str.split, lines)}
    released = [file for file in sorted(VERSIONS.glob("*.py")) if file.name[:4] <= max(RELEASED.values())]

    assert {str(file.relative_to(REPOSITORY)): sha256(file.read_bytes()).hexdigest() for file in released} == listed


@pytest.mark.parametrize("line", ALLOWED)
def test_changes_that_older_programs_do_not_notice_are_allowed(later: Later, line: str) -> None:
    later.add(line)

    with later.installed():
        assert refusals(FIRST) == []


@pytest.mark.parametrize("line", REFUSED)
def test_changes_that_older_programs_would_notice_are_refused(later: Later, line: str) -> None:
    number = later.add(line)

    with later.installed():
        (refused, *_) = refusals(FIRST)

    assert refused.startswith(number)


def test_a_migration_may_remove_what_only_a_declared_older_release_used(later: Later) -> None:
    later.add('op.drop_column("batches", "device", schema="scorebeat")', contract_of="0.1")

    with later.installed():
        assert refusals(FIRST) == []


def test_an_index_that_is_made_concurrently_is_alone_in_its_migration(later: Later) -> None:
    later.add('op.execute("CREATE TABLE scorebeat.costs ()")', 'create_index("b", "batches", ["number"])')

    with later.installed():
        (refused,) = refusals(FIRST)

    assert "is not undone when its index fails: CREATE TABLE" in refused


def test_a_released_migration_is_known_and_a_contraction_is_a_minor_version_later() -> None:
    scripts = list(ScriptDirectory.from_config(migrate.config()).walk_revisions())
    names = [script.revision for script in scripts]
    coming = tomllib.loads(Path(REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    assert all(re.fullmatch(r"\d{4}", name) for name in names)
    assert names == sorted(names, reverse=True)
    assert set(RELEASED.values()) <= set(names)
    for script in scripts:
        ended = contracted(script)
        assert ended is None or (ended in RELEASED and _minor(ended) < _minor(coming)), script.revision


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])

"""Under row security without a policy a query returns no row and no error; `check` reports it."""

import pytest

from scorebeat.core.settings import PREFIX
from scorebeat.db.source import row_security
from scorebeat.ops.cli.commands.installation import checks
from tests.support.fixtures import environment
from tests.support.roles_fixtures import LockedPoints, locked, roles

__all__ = ["locked", "roles"]


def hidden(points: LockedPoints, query: str) -> str | None:
    """The message of `check` on the query, under the role that runs."""
    with points.runner.engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT * FROM ({query}) AS q LIMIT 0")
        return row_security.hides_all(connection)


def test_a_table_that_hides_all_rows_from_the_role_is_named_until_a_policy_opens(locked: LockedPoints) -> None:
    locked.fill(5)
    assert hidden(locked, "SELECT * FROM points") is None
    locked.sql("ALTER TABLE points ENABLE ROW LEVEL SECURITY")
    locked.sql("CREATE POLICY writers ON points FOR INSERT WITH CHECK (true)")
    locked.sql(f"CREATE POLICY others ON points FOR SELECT TO {locked.roles.holder} USING (true)")
    assert locked.as_runner("SELECT count(*) FROM points") == [(0,)]

    message = str(hidden(locked, "SELECT * FROM points"))
    assert f"the role '{locked.roles.runner}' sees none of the rows of points" in message
    offered = message.partition("run `")[2].partition("`")[0]
    locked.sql(offered)

    assert locked.as_runner("SELECT count(*) FROM points") == [(5,)]
    assert hidden(locked, "SELECT * FROM points") is None


def test_a_view_that_reads_in_its_owners_name_hides_nothing(locked: LockedPoints) -> None:
    locked.fill(5)
    locked.sql("ALTER TABLE points ENABLE ROW LEVEL SECURITY")
    locked.sql("CREATE VIEW owners AS SELECT * FROM points")
    locked.sql("CREATE VIEW callers WITH (security_invoker = true) AS SELECT * FROM points")
    locked.sql(f"GRANT SELECT ON owners, callers TO {locked.roles.runner}")

    assert locked.as_runner("SELECT (SELECT count(*) FROM owners), (SELECT count(*) FROM callers)") == [(5, 0)]
    assert hidden(locked, "SELECT * FROM owners") is None
    assert "sees none of the rows of points" in str(hidden(locked, "SELECT * FROM callers"))


def test_check_reports_that_a_job_sees_no_row(locked: LockedPoints, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(locked.settings).items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    locked.fill(5)
    locked.model({})
    locked.job()
    locked.sql("ALTER TABLE points ENABLE ROW LEVEL SECURITY")

    (found,) = (one for one in checks.check_all() if one.subject == "job points_job")

    assert found.verdict == "problem"
    assert "sees none of the rows of points" in found.text

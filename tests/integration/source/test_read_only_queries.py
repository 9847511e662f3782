"""A job's query only reads, wherever it is run: what it would write is refused, what it would set is undone."""

from contextlib import AbstractContextManager, nullcontext, suppress

import adbc_driver_manager
import pytest
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import ScorebeatError
from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.source import filters, source
from scorebeat.db.source.selection import planning_cursor
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.preview import preview
from scorebeat.worker.scoring.score import score_batch
from tests.support.api_fixtures import Client, Opener, client, opened
from tests.support.cli_fixtures import Cli, scorebeat
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job

pytestmark = pytest.mark.wide(slow=15, quick=30)

__all__ = ["Opener", "client", "ledger", "opened", "scorebeat", "trained"]

ROWS = 20
WRITERS = {
    "sly(id bigint)": "INSERT INTO seen VALUES (id); RETURN true;",
    "wide(id bigint)": "SET TRANSACTION READ WRITE; RETURN sly(id);",
    "ends(id bigint)": "EXECUTE 'COMMIT'; RETURN sly(id);",
    "drops(id bigint)": "EXECUTE 'DROP TABLE items'; RETURN true;",
}
"""Functions and their bodies."""
SIDE_EFFECTS = {
    "a function that inserts": "sly(id)",
    "one that claims to be immutable": "same()",
    "one that makes its transaction writable": "wide(id)",
    "one that ends its transaction": "ends(id)",
    "one that drops": "drops(id)",
    "a setting that makes the transaction writable": "set_config('transaction_read_only', 'off', true) IS NOT NULL"
    " AND sly(id)",
    "the next number of a sequence": "nextval('calls') > 0",
    "the number of a sequence": "setval('calls', 77) > 0",
    "a large object": "lo_create(0) > 0",
    "a large object with content": "lo_from_bytea(0, 'x') > 0",
    "a query as text": "query_to_xml('INSERT INTO seen VALUES (1)', true, true, '') IS NOT NULL",
}
ONLY_IN_A_FETCH = "CASE WHEN current_setting('application_name') LIKE '% data' THEN {} ELSE true END"

ONLY_IN_THE_SEARCH = (
    "CASE WHEN current_setting('application_name') LIKE '% data'"
    " AND current_query() LIKE '%SELECT q.\"id\"::te' || 'xt%' THEN {} ELSE true END"
)
"""If a fetch has failed, its keys are fetched one by one; the pattern is cut so that it does not find itself."""


@pytest.fixture
def tempted(ledger: Ledger) -> Ledger:
    """With functions that write; a change of anything is seen by `untouched`."""
    ledger.sql(FILL.format(first=1, last=ROWS))
    ledger.sql("CREATE TABLE seen (id bigint)")
    ledger.sql("CREATE SEQUENCE calls")
    for head, body in WRITERS.items():
        ledger.sql(f"CREATE FUNCTION {head} RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    ledger.sql("CREATE FUNCTION same() RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN sly(1); END $$")
    return ledger


def untouched(ledger: Ledger) -> None:
    assert ledger.sql("SELECT count(*) FROM items") == [ROWS]
    assert ledger.sql("SELECT count(*) FROM seen") == [0]
    assert ledger.sql("SELECT last_value, is_called FROM calls") == [(1, False)]
    assert ledger.sql("SELECT count(*) FROM pg_largeobject_metadata") == [0]


def is_refused(ledger: Ledger, which: str) -> bool:
    """Before version 16, PostgreSQL lets a READ ONLY transaction write large objects; the ROLLBACK takes them back."""
    return "large object" not in which or ledger.sql("SELECT current_setting('server_version_num')::int >= 160000")[0]


def refusal(ledger: Ledger, which: str, *errors: type[Exception]) -> AbstractContextManager[object]:
    return pytest.raises(errors) if is_refused(ledger, which) else nullcontext()


def job_with(what: str) -> Job:
    return a_job(query=f"SELECT id, a, b FROM items WHERE {what}")


def failing(bad: int, what: str) -> Job:
    """Its query fails for one row."""
    return a_job(query=f"SELECT id, a / (id - {bad}) AS a, b FROM items WHERE {what}")


@pytest.mark.parametrize("which", SIDE_EFFECTS)
def test_neither_applying_nor_planning_a_query_changes_anything(tempted: Ledger, which: str) -> None:
    job = job_with(SIDE_EFFECTS[which])

    with suppress(ScorebeatError):  # some are refused now, others when they are run
        apply(tempted.producer, [job], "test")
    untouched(tempted)
    tempted.apply(job)  # as if it had been applied
    with refusal(tempted, which, ScorebeatError, DBAPIError):
        preview(tempted.producer, job.name)
    untouched(tempted)


@pytest.mark.slow(quick=6)
@pytest.mark.parametrize("which", SIDE_EFFECTS)
def test_a_fetch_changes_nothing_and_its_batch_is_not_scored(tempted: Ledger, which: str) -> None:
    what = "sly(1)" if which == "one that claims to be immutable" else SIDE_EFFECTS[which]  # else planning works it out
    run_id = tempted.planned(job_with(ONLY_IN_A_FETCH.format(what)))

    with refusal(tempted, which, ScorebeatError, adbc_driver_manager.Error):
        score_batch(tempted.batch_ids(run_id)[0], tempted.runtime)

    untouched(tempted)
    assert (tempted.batch(tempted.batch_ids(run_id)[0])["state"] == "dead") is is_refused(tempted, which)
    assert (tempted.sql(f"SELECT count(*) FROM {tempted.target(run_id).table}") == [0]) is is_refused(tempted, which)


@pytest.mark.parametrize("which", SIDE_EFFECTS)
def test_the_search_for_a_bad_row_changes_nothing_and_its_batch_is_not_scored(tempted: Ledger, which: str) -> None:
    what = "sly(1)" if which == "one that claims to be immutable" else SIDE_EFFECTS[which]
    run_id = tempted.planned(failing(7, ONLY_IN_THE_SEARCH.format(what)))

    with refusal(tempted, which, ScorebeatError, adbc_driver_manager.Error):
        score_batch(tempted.batch_ids(run_id)[0], tempted.runtime)

    untouched(tempted)
    assert (tempted.batch(tempted.batch_ids(run_id)[0])["state"] == "dead") is is_refused(tempted, which)


@pytest.mark.parametrize("which", SIDE_EFFECTS)
def test_reading_source_rows_by_the_api_changes_nothing(tempted: Ledger, client: Client, which: str) -> None:
    tempted.apply(job_with(SIDE_EFFECTS[which]))

    for path in ("/data/all", "/data/unpredicted", "/data/1"):
        assert (client.get(path).status_code >= 400) is is_refused(tempted, which)
        untouched(tempted)


@pytest.mark.parametrize("which", SIDE_EFFECTS)
def test_no_command_that_looks_at_rows_changes_anything(tempted: Ledger, scorebeat: Cli, which: str) -> None:
    run_id = tempted.planned(job_with(ONLY_IN_A_FETCH.format("true")))
    tempted.apply(job_with(SIDE_EFFECTS[which]))
    tempted.sql("UPDATE scorebeat.runs SET spec = (SELECT spec FROM scorebeat.jobs)")

    scorebeat("models", "list")
    untouched(tempted)
    scorebeat("show", str(run_id), "--batch", str(tempted.batch_ids(run_id)[0]))
    untouched(tempted)
    scorebeat("check")
    untouched(tempted)


WHERE = {
    **SIDE_EFFECTS,
    "a second statement": "true); DELETE FROM items; --",
    "a second statement after a commit": "true) AS q; COMMIT; DELETE FROM items; --",
    "a CTE that writes": "EXISTS (WITH d AS (DELETE FROM items RETURNING id) SELECT * FROM d)",
    "an INSERT in brackets": "id IN (INSERT INTO seen VALUES (1) RETURNING id)",
    "a UNION with an own table": "true) UNION SELECT 1 FROM pg_authid --",
}


@pytest.mark.parametrize("which", WHERE)
def test_a_filter_of_a_run_changes_nothing(tempted: Ledger, which: str) -> None:
    job = tempted.apply(a_job())
    url = tempted.producer.url

    try:
        with planning_cursor.reading(tempted.engine) as reader:
            filters.require_filter(reader, url, source.describe(reader, url, job), WHERE[which])
    except ScorebeatError:
        untouched(tempted)
        return
    untouched(tempted)
    run = tempted.run(tempted.planned(job, selection=Selection(where=WHERE[which])))

    untouched(tempted)
    assert (run.state == "failed") is ("fails in PostgreSQL" in (run.reason or "")) is is_refused(tempted, which)


SETTINGS = {"search_path": "elsewhere", "role": "pg_monitor", "statement_timeout": "1d", "datestyle": "SQL, DMY"}


@pytest.mark.slow(quick=3)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_settings_of_a_query_do_not_outlive_it(tempted: Ledger, setting: str) -> None:
    before = sessions(tempted, setting)
    what = f"set_config('{setting}', '{SETTINGS[setting]}', false) IS NOT NULL"
    job = job_with(f"CASE WHEN id = {ROWS} THEN {what} ELSE true END")

    run_id = tempted.planned(job)
    assert sessions(tempted, setting) == before
    for batch in tempted.batch_ids(run_id):
        score_batch(batch, tempted.runtime)

    assert sessions(tempted, setting) == before
    assert tempted.run(run_id).state == "succeeded"


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_querys_settings_do_not_outlive_the_search_for_a_bad_row(tempted: Ledger, setting: str) -> None:
    before = sessions(tempted, setting)
    what = ONLY_IN_THE_SEARCH.format(f"set_config('{setting}', '{SETTINGS[setting]}', false) IS NOT NULL")
    run_id = tempted.planned(failing(7, f"CASE WHEN id = 10 THEN {what} ELSE true END"))

    score_batch(tempted.batch_ids(run_id)[0], tempted.runtime)

    assert sessions(tempted, setting) == before
    assert tempted.batch(tempted.batch_ids(run_id)[0])["rows_failed"] == 1


def sessions(ledger: Ledger, setting: str) -> list[str]:
    """The setting as a worker's two connections and the producer's have it."""
    with ledger.runtime.data.cursor() as cursor:
        cursor.execute(f"SELECT current_setting('{setting}')")
        found = [str(cursor.fetchall()[0][0])]
    ledger.runtime.data.rollback()
    with ledger.engine.connect() as connection:
        return [*found, str(connection.exec_driver_sql(f"SELECT current_setting('{setting}')").scalar_one())]

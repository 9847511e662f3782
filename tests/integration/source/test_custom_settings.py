"""A setting of the user's own, which no statement unsets: it does not outlive the query that made it."""

from pathlib import Path
from typing import Any

import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.core.settings import Settings
from scorebeat.db.ledger.runs import Selection
from scorebeat.db.source import session_leftovers, source
from scorebeat.db.source.values import parameter_values
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.requests.apply import apply
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.worker.scoring.runtime import Runtime
from scorebeat.worker.scoring.score import Outcome, score_batch
from tests.support.shop import Shop

ROWS = 4
SET = "set_config('app.tenant', '42', true)"
OBJECTS = (
    f"CREATE FUNCTION tenant(int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN {SET}; END $$",
    f"CREATE FUNCTION folded(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN {SET}; END $$",
    f"CREATE FUNCTION inlined(int) RETURNS text LANGUAGE sql AS $$ SELECT {SET} $$",
    f'CREATE FUNCTION "Odd (name"() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN {SET}; END $$',
    "CREATE VIEW tenants AS SELECT id, tenant(id) AS word, folded(0) AS same FROM items",
)
SUSPECT = {
    "an operator": ["CREATE OPERATOR #+# (RIGHTARG = int, FUNCTION = tenant)"],
    "a domain": [f"CREATE DOMAIN of_tenant AS int CHECK ({SET} IS NOT NULL)"],
    "a cast": [
        "CREATE TYPE boxed AS (n int)",
        f"CREATE FUNCTION text(boxed) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN {SET}; END $$",
        "CREATE CAST (boxed AS text) WITH FUNCTION text(boxed)",
    ],
}
"""Objects that make any query of the database suspect are there for their own case only."""
NO_MORE = (
    "DROP OPERATOR IF EXISTS #+# (NONE, int)",
    "DROP DOMAIN IF EXISTS of_tenant",
    "DROP TYPE IF EXISTS boxed CASCADE",
)
WORDS = {
    "its own call": (SET, "items"),
    "a function": ("tenant(id)", "items"),
    "a function that claims to be immutable": ("folded(1)", "items"),
    "a function that is inlined": ("inlined(id)", "items"),
    "a name in quotes": ('"Odd (name"()', "items"),
    "an operator": ("#+# id", "items"),
    "a domain": ("id::of_tenant::text", "items"),
    "a cast": ("row(id)::boxed::text", "items"),
    "a view": ("word", "tenants"),
    "what a view works out beforehand": ("same", "tenants"),
    "a query as text": (f"(SELECT count(*) FROM ts_stat($q$SELECT to_tsvector({SET})$q$) WHERE id > 0)::text", "items"),
}
QUERY = "SELECT id, 1.0::float8 AS x, coalesce(current_setting('app.tenant', true), 'everybody') AS word FROM items"


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> Shop:
    made = Shop(settings)
    made.add_model(tmp_path)
    made.sql(f"CREATE TABLE items AS SELECT id FROM generate_series(1, {ROWS}) AS id")
    made.sql("ALTER TABLE items ADD PRIMARY KEY (id)")
    return made


def _job(name: str, query: str, **more: Any) -> Job:
    return Job.model_validate({"name": name, "query": query, "key": "id", "model": "echo", **more})


def _scored(shop: Shop, p: Producer, w: Runtime, job: Job, where: str | None = None) -> dict[int, str]:
    run = enqueue(p, Request(job.name, "test", selection=Selection(where=where))).run_id
    plan(p, run)
    for (batch,) in shop.sql(f"SELECT id FROM scorebeat.batches WHERE run_id = {run} ORDER BY number"):
        assert score_batch(batch, w) is Outcome.COMMITTED
    return dict(shop.sql(f"SELECT id, label FROM predictions.{job.name}"))


@pytest.mark.slow
def test_a_setting_that_a_query_makes_is_unset_in_the_next_job_of_the_process(shop: Shop) -> None:
    shop.sql(*OBJECTS)
    in_psql = {row[2] for row in shop.sql(QUERY)}
    found = {}
    with shop.at_work() as (p, w):
        for number, (what, (word, table)) in enumerate(WORDS.items()):
            shop.sql(*SUSPECT.get(what, ["SELECT 1"]))
            first = _job(f"first_{number}", f"SELECT id, 1.0::float8 AS x, {word} AS word FROM {table}")
            second = _job(f"second_{number}", QUERY)
            apply(p, [first, second], "test")
            assert len(_scored(shop, p, w, first)) == ROWS
            found[what] = set(_scored(shop, p, w, second).values())
            shop.sql(*(NO_MORE if what in SUSPECT else ["SELECT 1"]))

    assert in_psql == {"everybody"}
    assert found == dict.fromkeys(WORDS, in_psql)


def test_a_condition_of_a_run_that_makes_a_setting_leaves_none(shop: Shop) -> None:
    first = _job("first", "SELECT id, 1.0::float8 AS x, 'w' AS word FROM items")
    second = _job("second", QUERY)
    with shop.at_work() as (p, w):
        apply(p, [first, second], "test")
        assert len(_scored(shop, p, w, first, f"{SET} = '42'")) == ROWS

        assert set(_scored(shop, p, w, second).values()) == {"everybody"}


def test_each_batch_of_a_query_that_makes_a_setting_begins_without_it(shop: Shop) -> None:
    query = QUERY.replace("'everybody')", f"'everybody') || {SET}")
    (_, _, in_psql), *_ = shop.sql(query)
    with shop.at_work() as (p, w):
        job = _job("first", query, batch_rows=1)
        apply(p, [job], "test")

        assert _scored(shop, p, w, job) == dict.fromkeys(range(1, ROWS + 1), in_psql)


@pytest.mark.parametrize(
    ("word", "may"),
    [
        ("lower(id::text) || now()::date", False),
        ("'set_config'", False),
        ("setseed(0.5)::text", True),
        ("CASE WHEN id > 9 THEN set_config('app.tenant', '42', true) END", True),
    ],
)
def test_a_session_is_kept_after_built_in_functions_alone(shop: Shop, word: str, may: bool) -> None:
    shop.sql(*OBJECTS)  # functions that the query does not call
    shop.sql("CREATE EXTENSION citext")
    job = _job("first", f"SELECT id, 1.0::float8 AS x, {word} AS word FROM items")
    with shop.producer() as p, p.engine.connect() as connection:
        found = source.read_columns(connection, job, parameter_values.of_no_run(connection))

        assert session_leftovers.may_leave(connection, found) is may

"""Contract: the user's SQL returns the same in a run as in psql with the same URL, under every setting that matters.

Each setting that a user may change is in one of the lists below, with each version of PostgreSQL that is tested.
"""

import csv
import io
import os
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest
from sqlalchemy import make_url

from scorebeat.core.data_folder import StackUrls
from scorebeat.core.settings import Settings
from scorebeat.db.connect import session
from scorebeat.db.connect.engine import address
from scorebeat.ops.local.servers import postgres
from tests.support.fixtures import _execute, _other
from tests.support.shop import Shop

MEANING = {
    "DateStyle": ("SQL, DMY", "('03/04/2026'::date + 1)::text"),
    "IntervalStyle": ("iso_8601", "(interval '1 mon 2 days 03:00')::text"),
    "TimeZone": (
        "Asia/Kathmandu",
        "timestamptz '2026-07-01 00:00+00' || extract(hour FROM timestamptz '2026-07-01 00:00+00')::text",
    ),
    "array_nulls": ("off", "(('{NULL,a}'::text[])[1] IS NULL)::text"),
    "backslash_quote": ("on", ""),
    "bytea_output": ("escape", "'ab'::bytea::text"),
    "default_text_search_config": ("pg_catalog.simple", "to_tsvector('the cats')::text"),
    "extra_float_digits": ("0", "(0.1::float8 + 0.2)::text"),
    "gin_fuzzy_search_limit": ("100000", ""),
    "lc_monetary": ("POSIX", ""),
    "lc_numeric": ("POSIX", ""),
    "lc_time": ("POSIX", ""),
    "restrict_nonsystem_relation_kind": ("foreign-table", ""),
    "row_security": ("off", ""),
    "search_path": ("ml, public", "(SELECT v FROM thing)"),
    "standard_conforming_strings": ("off", r"length('a\tb')::text"),
    "statement_timeout": ("50min", ""),
    "timezone_abbreviations": (
        "Australia", "(timestamptz '2026-01-01 00:00 EST' - timestamptz '2026-01-01 00:00+00')::text"
    ),
    "transform_null_equals": ("on", "coalesce((1 = NULL)::text, 'nothing')"),
    "xmlbinary": ("hex", ""),
    "xmloption": ("document", ""),
}  # fmt: skip
"""A value, and an expression that the setting changes; none: only that the query sees the value."""
ROLE = "current_user::text"
OURS = {
    "application_name", "client_encoding", "client_connection_check_interval", "default_transaction_deferrable",
    "default_transaction_isolation", "idle_in_transaction_session_timeout", "jit", "lock_timeout",
    "max_parallel_workers_per_gather", "quote_all_identifiers", "tcp_*",
}  # fmt: skip
"""Set in every session of ours, whatever the user sets; they change no value but that of quote_ident."""
NO_MEANING = {
    # how a statement is planned, run and logged, and how much it may use
    "*_cost", "enable_*", "cpu_*", "geqo*", "jit_*", "debug_*", "trace_*", "log_*", "parallel_*",
    "min_parallel_*", "max_parallel_*", "*collapse_limit", "constraint_exclusion", "cursor_tuple_fraction",
    "plan_cache_mode", "recursive_worktable_factor", "default_statistics_target", "effective_*", "*work_mem",
    "hash_mem_multiplier", "temp_buffers", "temp_tablespaces", "backend_flush_after", "*io_concurrency",
    "io_combine_limit", "vacuum_*", "gin_pending_list_limit", "commit_siblings", "synchronous_commit", "wal_*",
    "file_copy_method", "synchronize_seqscans", "stats_fetch_consistency",
    # limits of time: what exceeds them fails, in psql too
    "idle_session_timeout", "transaction_timeout",
    # what a session that only reads never does
    "check_function_bodies", "createrole_self_grant", "default_table_access_method", "default_tablespace",
    "default_toast_compression", "icu_validation_level", "md5_password_warnings", "password_encryption",
    "scram_iterations", "force_parallel_mode", "exit_on_error", "local_preload_libraries",
    # what is sent beside the rows
    "client_min_messages", "escape_string_warning",
    # of a transaction: a query runs READ ONLY in one of ours
    "default_transaction_read_only", "transaction_*",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(stack: StackUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder, name = tmp_path_factory.mktemp("shop"), "psql_settings"
    _execute(stack.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    url = _other(stack.database_url, name)
    made = Shop(Settings(_env_file=None, database_url=url, broker_url=stack.broker_url, artifacts=folder / "artifacts"))
    made.add_model(folder)
    made.sql(
        "CREATE SCHEMA ml", "CREATE TABLE ml.thing AS SELECT 'of ml' AS v", "CREATE TABLE thing AS SELECT 'usual' AS v",
        "CREATE ROLE analyst SUPERUSER",
    )  # fmt: skip
    yield made
    made.sql("ALTER ROLE postgres RESET ALL")
    _execute(stack.database_url, f"DROP DATABASE {name} WITH (FORCE)")
    _execute(stack.database_url, "DROP ROLE analyst")


@pytest.fixture(scope="module")
def known(shop: Shop) -> dict[str, tuple[str, str]]:
    """Those of the server that runs."""
    there = {row[0] for row in shop.sql("SELECT name FROM pg_settings")}
    return {name: case for name, case in MEANING.items() if name in there}


@pytest.fixture(scope="module")
def query(known: dict[str, tuple[str, str]]) -> str:
    """A row for each setting with what it changes, and one for the role."""
    shown = [expression or f"current_setting('{name}')" for name, (_, expression) in known.items()]
    rows = ", ".join(f"({number}, {what})" for number, what in enumerate([*shown, ROLE]))
    return f"SELECT id, 0.0::float8 AS x, word FROM (VALUES {rows}) AS v (id, word)"


@pytest.fixture(scope="module")
def usual(shop: Shop, query: str) -> dict[int, str]:
    return psql(shop, query)


def psql(shop: Shop, query: str) -> dict[int, str]:
    """The result of psql."""
    command = [str(postgres.binaries() / "psql"), address(make_url(shop.url)), "-X", "-q", "--csv", "-t", "-c"]
    environment = os.environ | {"PGCLIENTENCODING": "UTF8"}
    done = subprocess.run(
        [*command, f"SELECT id, word FROM ({query}) AS q"], env=environment, check=True, capture_output=True, text=True
    )
    return {int(number): word for number, word in csv.reader(io.StringIO(done.stdout))}


def test_every_setting_that_a_user_may_change_is_known_to_matter_or_not(shop: Shop) -> None:
    found = shop.sql("SELECT name FROM pg_settings WHERE context = 'user' AND name NOT LIKE '%.%'")
    settings = {row[0] for row in found}

    unknown = {
        name for name in settings - MEANING.keys() if not any(fnmatch(name, known) for known in OURS | NO_MEANING)
    }

    assert unknown == set()


def test_our_statements_set_only_settings_that_a_user_may_change() -> None:
    assert session.STATEMENTS.keys() <= MEANING.keys()
    assert not {name for name in session.ALWAYS if not any(fnmatch(name, ours) for ours in OURS)}


def test_without_settings_a_run_returns_what_psql_does(shop: Shop, query: str, usual: dict[int, str]) -> None:
    assert shop.labels(query) == usual


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("by", ["database", "role", "url"])
def test_with_every_setting_changed_a_run_returns_what_psql_does(
    by: str, shop: Shop, query: str, usual: dict[int, str], known: dict[str, tuple[str, str]]
) -> None:
    wanted = {**{name: value for name, (value, _) in known.items()}, "role": "analyst"}
    here = shop
    if by == "url":
        here = shop.at(options=" ".join(f"-c {name}={session.escaped(value)}" for name, value in wanted.items()))
    else:
        whom = {"database": f"DATABASE {make_url(shop.url).database}", "role": "ROLE postgres"}[by]
        values = {name: value if name == "search_path" else f"'{value}'" for name, value in wanted.items()}
        shop.sql(*(f"ALTER {whom} SET {name} = {value}" for name, value in values.items()))
    try:
        expected = psql(here, query)

        assert here.labels(query, name=f"by_{by}") == expected
    finally:
        shop.sql(f"ALTER DATABASE {make_url(shop.url).database} RESET ALL", "ALTER ROLE postgres RESET ALL")
    names = [*known, "role"]
    assert {names[number] for number, word in expected.items() if word == usual[number]} == set()

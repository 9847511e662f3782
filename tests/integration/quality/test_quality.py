"""Stored predictions are compared with what really happened, week by week and version by version, by scikit-learn."""

import json
import logging
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LinearRegression, LogisticRegression
from sqlalchemy import Connection

from scorebeat.core.errors import QueryError, ScorebeatError, SignatureError, UsageError
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.batch_io import truth_rows
from scorebeat.db.connect import session
from scorebeat.db.ledger.evidence import quality
from scorebeat.db.ledger.evidence.quality import JobQuality, QualityWeek
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep import quality as nightly
from scorebeat.producer.requests import change_job
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.measure_quality import measure
from scorebeat.producer.requests.release import release
from scorebeat.producer.versions import publish
from tests.support.ledger_fixtures import connection, shared_engine
from tests.support.ledger_rows import add_run
from tests.support.poison_fixtures import Points, points

pytestmark = pytest.mark.wide(quick=4)

__all__ = ["connection", "points", "shared_engine"]

ROWS = 1_500
TRUTH = "SELECT id, outcome AS label, known_at FROM outcomes"
WEEKS = 3
THIS_WEEK = "date_trunc('week', now() AT TIME ZONE 'UTC')"


@dataclass
class Shop:
    """1,500 customers (id, a, b), and what became of them: in each of three weeks the outcomes of 400."""

    points: Points

    def __post_init__(self) -> None:
        generator = np.random.default_rng(7)
        self.values = generator.normal(size=(ROWS, 2))
        self.outcomes = np.where(self.values[:, 0] + generator.normal(size=ROWS) > 0.3, "yes", "no")
        self.sql("CREATE TABLE customers (id bigint PRIMARY KEY, a float8, b float8)")
        self.sql("CREATE TABLE outcomes (id bigint PRIMARY KEY, outcome text, amount float8, known_at timestamptz)")
        rows = [{"id": i, "a": a, "b": b} for i, (a, b) in enumerate(self.values.tolist())]
        outcomes = [{"id": i, "outcome": str(o)} for i, o in enumerate(self.outcomes)]
        self.sql("INSERT INTO customers SELECT * FROM jsonb_populate_recordset(NULL::customers, CAST(:rows AS jsonb))",
                 rows=json.dumps(rows))  # fmt: skip
        self.sql(
            "INSERT INTO outcomes SELECT id, outcome, id / 10.0, (date_trunc('week', now() AT TIME ZONE 'UTC')"
            " - (id % 3) * interval '1 week' + interval '1 hour') AT TIME ZONE 'UTC'"
            " FROM jsonb_populate_recordset(NULL::outcomes, CAST(:rows AS jsonb)) WHERE id < 1200",
            rows=json.dumps(outcomes),
        )

    def sql(self, statement: str, **values: Any) -> list[Any]:
        return self.points.sql(statement, **values)

    def add(self, model: Any, target: Any, name: str = "churn") -> int:
        """Fit a model on the customers, and add it."""
        fitted = model.fit(pd.DataFrame(self.values, columns=["a", "b"]), target)
        path = self.points.folder / f"{name}.skops"
        skops.io.dump(fitted, path)
        return publish.add(self.points.producer, path, name, "test").version.version

    def job(self, **options: Any) -> Job:
        usual = {"name": "churn_job", "query": "SELECT id, a, b FROM customers", "model": "churn", "truth": TRUTH}
        return self.points.job(**{**usual, **options})

    def score(self, job: Job, version: int | None = None) -> int:
        run_id = enqueue(self.points.producer, Request(job.name, "test", version)).run_id
        plan(self.points.producer, run_id)
        assert self.points.work(run_id) is RunState.SUCCEEDED
        return run_id

    def measure(self, job: Job) -> JobQuality:
        return measure(self.points.producer, job.name)

    def joined(self, table: str, more: str = "") -> dict[date, pd.DataFrame]:
        """The oracle's own join: by week, the predictions of a table with their outcomes."""
        rows = self.sql(
            f"SELECT date_trunc('week', o.known_at AT TIME ZONE 'UTC')::date, o.outcome, p.label, p.no, p.yes"
            f" FROM outcomes o JOIN predictions.{table} p USING (id) WHERE o.outcome IS NOT NULL {more} ORDER BY o.id"
        )
        frame = pd.DataFrame(rows, columns=["week", "outcome", "label", "no", "yes"])
        return dict(iter(frame.groupby("week")))


@pytest.fixture
def shop(points: Points) -> Shop:
    return Shop(points)


def of_week(found: JobQuality, version: int, week: date) -> QualityWeek:
    (one,) = (each for each in found.weeks if (each.version, each.week) == (version, week))
    return one


def expected(rows: pd.DataFrame) -> dict[str, Any]:
    """What scikit-learn computes of labels and probabilities."""
    happened = rows.outcome == "yes"
    shares, means = calibration_curve(happened, rows.yes, n_bins=10)
    counts, _ = np.histogram(rows.yes, np.linspace(0, 1, 11))
    return {
        "accuracy": metrics.accuracy_score(rows.outcome, rows.label),
        "roc_auc": metrics.roc_auc_score(happened, rows.yes),
        "log_loss": metrics.log_loss(rows.outcome, rows[["no", "yes"]], labels=["no", "yes"]),
        "bins": [(int(count)) for count in counts],
        "curve": [*zip(means.tolist(), shares.tolist(), strict=True)],
    }


def figures(week: QualityWeek) -> dict[str, Any]:
    bins = week.metrics["calibration"]["bins"]
    return {name: week.metrics[name] for name in ("accuracy", "roc_auc", "log_loss")} | {
        "bins": [each["rows"] for each in bins],
        "curve": [(each["predicted"], each["happened"]) for each in bins if each["rows"]],
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(np.array(value), np.array(other[name]), rtol=1e-12, err_msg=name)


def test_each_version_and_week_has_the_metrics_that_scikit_learn_computes(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    shop.add(LogisticRegression(C=0.001), shop.outcomes)
    job = shop.job()
    shop.score(job)
    shop.score(job, version=2)
    shop.sql("UPDATE outcomes SET outcome = NULL WHERE id < 30")
    shop.sql("DELETE FROM customers WHERE id BETWEEN 100 AND 200")  # their predictions stay, and count
    shop.sql("UPDATE predictions.churn_job__churn_v1 SET scored_at = now() - interval '1 year' WHERE id < 500")

    found = shop.measure(job)

    assert (len(found.weeks), found.failure) == (2 * WEEKS, None)
    for version in (1, 2):
        for week, rows in shop.joined(f"churn_job__churn_v{version}").items():
            one = of_week(found, version, week)
            assert (one.rows, one.null_labels, one.metrics["compared"], one.metrics["left_out"]) == (390, 10, 390, 0)
            same(figures(one), expected(rows))
    newest = [(one.version, one.week) for one in found.weeks[:2]]
    assert newest == [(2, found.weeks[0].week), (1, found.weeks[0].week)]  # side by side
    first = of_week(found, 1, found.weeks[0].week)
    # of the 1,000 that were made this week the outcomes of 700 are known; all of them after this Monday, 01:00
    assert (first.predictions, first.with_truth) == (1_000, 700)
    after = "SELECT count(*) FROM outcomes JOIN predictions.churn_job__churn_v1 p USING (id) WHERE outcome IS NOT NULL"
    assert (
        sum(one.scored_after for one in found.weeks if one.version == 1)
        == (shop.sql(f"{after} AND p.scored_at > known_at")[0])
    )


def test_numbers_are_compared_in_the_week_in_which_they_were_computed(shop: Shop) -> None:
    shop.add(LinearRegression(), shop.values @ [2.0, -1.0], "amount")
    job = shop.job(model="amount", truth="SELECT id, amount AS label FROM outcomes")
    shop.score(job)
    shop.sql("UPDATE outcomes SET amount = 'NaN' WHERE id = 3")

    (week,) = shop.measure(job).weeks

    rows = np.array(
        shop.sql("SELECT amount, value FROM outcomes JOIN predictions.churn_job USING (id) WHERE amount <> 'NaN'")
    )
    assert [str(week.week)] == shop.sql(f"SELECT {THIS_WEEK}::date::text")
    assert (week.rows, week.metrics["left_out"], week.metrics["compared"]) == (1_200, 1, 1_199)
    assert week.metrics["rmse"] == pytest.approx(metrics.root_mean_squared_error(*rows.T), rel=1e-12)
    assert week.metrics["mae"] == pytest.approx(metrics.mean_absolute_error(*rows.T), rel=1e-12)
    assert week.metrics["r2"] == pytest.approx(metrics.r2_score(*rows.T), rel=1e-12)


def test_of_many_rows_the_same_random_ones_are_compared_each_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth_rows, "MOST_ROWS", 150)
    monkeypatch.setattr(truth_rows, "READ_CHUNK", 100)
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job()
    shop.score(job)
    first, second = shop.measure(job), shop.measure(job)
    assert [week.metrics for week in first.weeks] == [week.metrics for week in second.weeks]
    for week, rows in shop.joined("churn_job__churn_v1").items():
        one = of_week(first, 1, week)
        assert (one.rows, one.metrics["compared"]) == (400, 150)
        assert one.metrics["accuracy"] == pytest.approx(expected(rows)["accuracy"], abs=0.12)


def test_newest_weeks_are_replaced_and_older_ones_computed_when_more_is_known(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job()
    shop.score(job)
    shop.sql("UPDATE outcomes SET known_at = known_at - interval '20 weeks' WHERE mod(id, 3) = 2")
    before = shop.measure(job)
    newest, old = before.weeks[0].week, before.weeks[-1].week
    assert newest - old == timedelta(weeks=22)

    shop.sql("UPDATE outcomes SET outcome = 'yes'")
    after = shop.measure(job)
    assert of_week(after, 1, old) == of_week(before, 1, old)
    assert of_week(after, 1, newest).metrics["accuracy"] != of_week(before, 1, newest).metrics["accuracy"]
    assert of_week(after, 1, newest).metrics["notes"] == ["roc_auc needs rows of at least two labels"]

    shop.sql(
        "INSERT INTO outcomes SELECT id, 'yes', 0, (SELECT min(known_at) FROM outcomes) FROM customers WHERE id = 1300"
    )
    last = of_week(shop.measure(job), 1, old)
    assert last.rows == 401
    assert last.metrics["accuracy"] != of_week(before, 1, old).metrics["accuracy"]


@pytest.mark.slow
def test_labels_of_a_week_to_come_are_named_and_old_weeks_show_what_is_known(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job()
    shop.score(job)
    # all were scored 20 weeks ago, and of 400 the outcome was known in that week
    for table in ("predictions.churn_job__churn_v1", "scorebeat.batches"):
        column = "scored_at" if "v1" in table else "finished_at"
        shop.sql(f"UPDATE {table} SET {column} = {column} - interval '20 weeks'")
    shop.sql("UPDATE outcomes SET known_at = known_at - interval '20 weeks' WHERE mod(id, 3) = 0")
    shop.sql("UPDATE outcomes SET outcome = NULL WHERE mod(id, 3) = 1")
    old = shop.measure(job).weeks[-1]
    assert (old.rows, old.predictions, old.with_truth) == (400, 1_500, 800)
    shop.sql("UPDATE outcomes SET outcome = 'no' WHERE mod(id, 3) = 1")
    assert shop.measure(job).weeks[-1].with_truth == 1_200

    newest = shop.measure(job).weeks[0].week
    shop.sql("UPDATE outcomes SET known_at = '2206-12-01' WHERE id = 1")
    shop.sql(
        "INSERT INTO scorebeat.quality SELECT job, model, version, '2206-12-01', 1, 0, 0, 0, 0, '{}'"
        " FROM scorebeat.quality LIMIT 1"
    )
    with pytest.raises(
        SignatureError, match="1 rows with a label have a known_at in a week to come, up to that of 2206"
    ):
        shop.measure(job)
    with shop.points.engine.connect() as connection:
        found = quality.of_job(connection, job.name)
    assert found.weeks[0].week == newest
    assert "They are left out" in (found.failure or "")
    shop.sql("UPDATE outcomes SET known_at = 'infinity' WHERE id = 2")
    with pytest.raises(SignatureError, match="2 rows with a label have a known_at in a week to come"):
        shop.measure(job)


@pytest.mark.slow
def test_a_truth_that_takes_long_to_be_checked_is_applied(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    points.fill(20)
    points.model({})
    monkeypatch.setitem(session.ALWAYS, "idle_in_transaction_session_timeout", "500ms")
    slow = "SELECT id, x AS label FROM points, (SELECT pg_sleep(1.5)) AS s"
    with closing(Producer(points.settings, "test")) as points.producer:
        assert points.job(truth=slow).truth == slow


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        (
            "SELECT id AS customer, outcome AS label FROM outcomes",
            "no column 'id', which `key` names; it returns customer",
        ),
        ("SELECT id, outcome FROM outcomes", "no column 'label' beside the key; it returns id, outcome"),
        ("SELECT id, outcome AS label, 'x' AS known_at FROM outcomes", "'known_at' is string; expected timestamptz"),
        (
            "SELECT id, amount AS label FROM outcomes",
            "'label' is double, which cannot be compared with the output 'label'",
        ),
        ("SELECT id, true AS label FROM outcomes", "expected a text: write it as the model does"),
        ("SELECT id::text AS id, outcome AS label FROM outcomes", "operator does not exist: bigint = text"),
        ("SELECT id % 500 AS id, outcome AS label FROM outcomes", r"several rows for one key: \(0\) 3 times"),
        ("SELECT id, outcome AS label FROM outcome", 'truth fails in PostgreSQL: relation "outcome" does not exist'),
        ("DELETE FROM outcomes RETURNING id, outcome AS label", "truth is not one SELECT"),
        ("SELECT id, outcome AS label FROM outcomes; SELECT 1", "truth holds several statements"),
    ],
)
def test_a_truth_that_cannot_be_compared_is_refused_when_it_is_applied(shop: Shop, truth: str, reason: str) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    with pytest.raises(UsageError, match=r"jobs\.churn_job\.truth") as refused:
        shop.job(truth=truth)
    assert refused.match(reason)


def test_a_truth_without_a_query_or_with_values_of_a_run_is_refused() -> None:
    for truth, reason in ((" ", "is empty"), ("SELECT :run_id AS id, 1 AS label", "which only a run has")):
        with pytest.raises(ValueError, match=reason):
            Job.model_validate(
                {"name": "a", "query": "SELECT 1 AS id", "key": ("id",), "model": "m", "truth": truth},
                context={"is_new": True},
            )


@pytest.mark.parametrize(
    ("harm", "reason", "kind"),
    [
        ("DELETE FROM outcomes", "returns no row; expected one for each key", QueryError),
        ("UPDATE outcomes SET id = id + 5000", "no key of it has a prediction", QueryError),
        ("UPDATE outcomes SET outcome = NULL", "the label is NULL in all 1,200 rows", QueryError),
        ("ALTER TABLE outcomes RENAME outcome TO result", "truth fails in PostgreSQL: column", QueryError),
        ("ALTER TABLE outcomes ALTER outcome TYPE int USING 1", "'label' is int32, which cannot be", SignatureError),
        ("ALTER TABLE outcomes DROP CONSTRAINT outcomes_pkey; INSERT INTO outcomes SELECT * FROM outcomes WHERE id = 7",
         r"several rows for one key: \(7\) 2 times", QueryError),
    ],
)  # fmt: skip
def test_a_night_whose_truth_cannot_be_read_is_an_event_with_its_reason(
    shop: Shop, harm: str, reason: str, kind: type[ScorebeatError], caplog: pytest.LogCaptureFixture
) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job()
    shop.score(job)
    for statement in harm.split("; "):
        shop.sql(statement)
    with caplog.at_level(logging.WARNING):
        assert nightly.run_once(shop.points.producer) == 0
    (record,) = (each for each in caplog.records if each.getMessage() == "quality.failed")
    assert record.levelno == logging.WARNING
    (failure,) = shop.sql("SELECT failure FROM scorebeat.truth_readings")
    assert record.scorebeat_fields == {"job": "churn_job", "reason": failure}  # type: ignore[attr-defined]
    with pytest.raises(kind, match=reason):
        shop.measure(job)
    assert shop.sql("SELECT count(*) FROM scorebeat.quality") == [0]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("churn", "CASE WHEN id = 5 THEN (1 / (id - 5))::text ELSE outcome END"),
        ("churn", "CASE WHEN id = 5 THEN ('x' || outcome)::int::text ELSE outcome END"),
        ("amount", "CASE WHEN id = 5 THEN 1e400 ELSE 1 END"),  # only the driver of Arrow meets it
    ],
)
def test_an_error_of_the_truth_in_a_row_is_reported_without_its_values(shop: Shop, name: str, label: str) -> None:
    is_class = name == "churn"
    model = LogisticRegression() if is_class else LinearRegression()
    shop.add(model, shop.outcomes if is_class else shop.values[:, 0], name)
    job = shop.job(model=name, truth=f"SELECT id, {label} AS label FROM outcomes")
    shop.score(job)
    with pytest.raises(ScorebeatError, match=r"jobs\.churn_job\.truth cannot be read") as raised:
        shop.measure(job)
    assert not any(value in str(raised.value) for value in ("xno", "xyes", "0000000"))
    assert shop.sql("SELECT failure FROM scorebeat.truth_readings") == [str(raised.value)]


def test_a_job_that_is_dropped_takes_its_figures_along_and_a_renamed_one_keeps_them(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job()
    shop.score(job)
    before = shop.measure(job)
    change_job.rename(shop.points.producer, "churn_job", "leavers", "ann")
    with shop.points.engine.connect() as connection:
        assert quality.of_job(connection, "leavers").weeks == before.weeks
    change_job.drop(shop.points.producer, "leavers", "ann")
    assert shop.sql("SELECT job FROM scorebeat.quality UNION ALL SELECT job FROM scorebeat.truth_readings") == []


def test_the_truth_is_read_once_a_night_and_after_a_change_of_the_job(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    p = shop.points.producer
    job = shop.job()
    shop.score(job)
    assert nightly.is_due(p)
    assert nightly.run_once(p) == 1
    assert not nightly.is_due(p)
    assert shop.sql("SELECT next_at BETWEEN now() AND now() + interval '1 day' FROM scorebeat.truth_readings") == [True]

    shop.sql("UPDATE scorebeat.truth_readings SET next_at = now()")
    assert nightly.is_due(p)
    assert nightly.run_once(p) == 1

    shop.job(truth=f"{TRUTH} WHERE id < 900")
    assert nightly.is_due(p)
    assert nightly.run_once(p) == 1
    assert sum(shop.sql("SELECT rows FROM scorebeat.quality")) == 900

    shop.job(truth=None)
    assert not nightly.is_due(p)


@pytest.mark.quick
def test_one_truth_is_read_at_a_time_and_the_others_after_it(connection: Connection) -> None:
    for job in ("first", "second"):
        add_run(connection, "succeeded", job)
    connection.exec_driver_sql('UPDATE scorebeat.jobs SET spec = spec || \'{"truth": "SELECT 1"}\'')
    hour = timedelta(hours=1)
    assert quality.due(connection) == ["first", "second"]
    assert quality.take(connection, "first", hour)
    assert (quality.due(connection), quality.take(connection, "second", hour)) == ([], False)

    quality.end(connection, "first", datetime.now(UTC) + hour)
    assert quality.due(connection) == ["second"]
    assert quality.take(connection, "second", hour)


def test_a_reading_whose_process_died_is_begun_again_and_reported(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    p = shop.points.producer
    job = shop.job()
    shop.score(job)
    with p.engine.begin() as connection:
        assert quality.take(connection, job.name, timedelta(hours=1))
    assert nightly.run_once(p) == 0
    shop.sql("UPDATE scorebeat.truth_readings SET next_at = now()")
    with p.engine.begin() as connection:
        assert quality.take(connection, job.name, timedelta(0))
        assert "did not end: its process died" in quality.failures(connection)[job.name]
    assert nightly.run_once(p) == 1
    assert shop.sql("SELECT failure FROM scorebeat.truth_readings") == [None]


def test_rows_of_a_whole_run_count_when_readers_see_them(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job(on_failure="retry-run", gate={"min_rows": 5_000})
    run_id = enqueue(shop.points.producer, Request(job.name, "test")).run_id
    plan(shop.points.producer, run_id)
    assert shop.points.work(run_id) is RunState.HELD
    assert shop.measure(job).weeks == ()
    release(shop.points.producer, run_id, "ann")
    assert sum(week.rows for week in shop.measure(job).weeks) == 1_200


def test_a_generation_that_is_held_does_not_count_and_the_one_before_does(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job(rescore="every-run", gate={"min_rows": 1_000})
    shop.score(job)
    before = shop.measure(job)
    shop.sql("DELETE FROM customers WHERE id >= 900")
    run_id = enqueue(shop.points.producer, Request(job.name, "test")).run_id
    plan(shop.points.producer, run_id)
    assert shop.points.work(run_id) is RunState.HELD
    held = shop.measure(job)
    assert [(week.rows, week.metrics) for week in held.weeks] == [(week.rows, week.metrics) for week in before.weeks]
    release(shop.points.producer, run_id, "ann")
    assert sum(week.rows for week in shop.measure(job).weeks) == 900


def test_a_version_that_cannot_be_compared_does_not_keep_others_from_it(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    both = np.column_stack([shop.values[:, 0], shop.values[:, 1]])
    job = shop.job()
    shop.score(job)
    shop.add(LinearRegression(), both)
    shop.score(job, version=2)
    with pytest.raises(SignatureError, match="churn/2: the outputs value_0, value_1 are neither one label"):
        shop.measure(job)
    assert sum(shop.sql("SELECT rows FROM scorebeat.quality WHERE version = 1")) == 1_200


def test_a_key_of_several_columns_and_another_zone_change_no_figure(shop: Shop) -> None:
    shop.add(LogisticRegression(), shop.outcomes)
    job = shop.job(
        query="SELECT id, id::text AS code, a, b FROM customers",
        key=("id", "code"),
        timezone="Pacific/Auckland",
        truth="SELECT id, id::text AS code, outcome AS label, known_at::date AS known_at FROM outcomes",
    )
    shop.score(job)
    found = shop.measure(job)
    assert sum(week.rows for week in found.weeks) == 1_200
    assert all(week.week.weekday() == 0 for week in found.weeks)
    wanted = sum(rows.shape[0] * expected(rows)["accuracy"] for rows in shop.joined("churn_job__churn_v1").values())
    got = sum(week.rows * week.metrics["accuracy"] for week in found.weeks)
    assert got == pytest.approx(wanted)

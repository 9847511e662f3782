"""The whole system in real containers: what is killed, emptied, stopped or scaled loses and doubles no prediction."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from tests.containers.engine import Composed, composed, unavailable
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

ROWS = 4_000
A_BATCH = 200
JOBS = f"""
[jobs.churn]
query = '''SELECT id, a, b FROM items WHERE CASE WHEN current_setting('application_name') LIKE '% data'
           THEN pg_sleep(0.002) IS NOT NULL ELSE true END'''
key = "id"
model = "churn"
batch_rows = {A_BATCH}
rescore = "every-run"
"""
"""A worker's fetch takes 2 ms a row, so that a run takes seconds and something can happen in its middle."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    if (reason := unavailable()) is not None:
        pytest.skip(reason)
    with composed(tmp_path_factory.mktemp("compose")) as made:
        rng = np.random.default_rng(3)
        model = LogisticRegression().fit(rng.normal(size=(200, 2)), rng.integers(0, 2, 200))
        skops.io.dump(model, made.folder / "project/churn.skops")
        (made.folder / "project/jobs.toml").write_text(JOBS)
        made.sql(
            f"SELECT setseed(0.5); CREATE TABLE items AS SELECT id::bigint, (random() - 0.5)::float8 AS a,"
            f" (random() - 0.5)::float8 AS b FROM generate_series(1, {ROWS}) AS id;"
            " ALTER TABLE items ADD PRIMARY KEY (id)"
        )
        made.cli("models", "add", "churn.skops", "--name", "churn", "--inputs", "a,b")
        made.cli("apply")
        yield made


def begin(system: Composed) -> int:
    """A run of which some batches are committed, and some are not."""
    system.cli("enqueue", "churn")
    run = int(system.sql("SELECT max(id) FROM scorebeat.runs")[0][0])
    wait_for(lambda: committed(system, run) >= 2, 120)
    assert committed(system, run) < ROWS // A_BATCH
    return run


def committed(system: Composed, run: int) -> int:
    found = system.sql(f"SELECT count(*) FROM scorebeat.batches WHERE run_id = {run} AND state = 'committed'")
    return int(found[0][0])


def require_right(system: Composed, run: int, within: float = 240) -> None:
    """The run ends, and each row has exactly one prediction: the one of a plain loop over the model."""
    state = f"SELECT state FROM scorebeat.runs WHERE id = {run}"
    wait_for(lambda: system.sql(state, check=False) == [["succeeded"]], within)
    model = skops.io.load(system.folder / "project/churn.skops")
    rows = system.sql("SELECT i.id, i.a, i.b, p.label FROM items i LEFT JOIN predictions.churn p USING (id) ORDER BY 1")
    assert len(rows) == ROWS
    inputs = np.array([[float(a), float(b)] for _, a, b, _ in rows])
    assert [int(label) for *_, label in rows] == model.predict(inputs).tolist()
    assert system.sql("SELECT count(*), count(DISTINCT id) FROM predictions.churn") == [[str(ROWS)] * 2]


def until_healthy(system: Composed) -> None:
    wait_for(lambda: set(system.health().values()) == {"healthy"}, 240)


def flush(system: Composed) -> None:
    system.compose("exec", "-T", "broker", "redis-cli", "flushall")


def kill(service: str) -> Callable[[Composed], None]:
    def act(system: Composed) -> None:
        system.kill(service)

    act.__name__ = service
    return act


def scale(system: Composed) -> None:
    system.compose("up", "--no-build", "--no-recreate", "--detach", "--scale", "cpu-worker=2")


def restart(system: Composed) -> None:
    """Everything ends, with its containers and networks; the volumes stay."""
    system.compose("down")
    system.compose("up", "--no-build", "--detach", "--wait")


def test_all_services_become_healthy_and_score_a_run(system: Composed) -> None:
    assert set(system.health()) == {"database", "broker", "beat", "control", "cpu-worker", "flower", "api"}
    until_healthy(system)
    require_right(system, begin(system))


@pytest.mark.parametrize(
    "happens",
    [*map(kill, ("cpu-worker", "control", "beat", "flower", "api", "broker", "database")), flush, scale, restart],
    ids=lambda happens: happens.__name__,
)
def test_no_prediction_is_lost_or_doubled_whatever_happens_to_a_service(
    system: Composed, happens: Callable[[Composed], None]
) -> None:
    run = begin(system)

    happens(system)

    require_right(system, run)
    until_healthy(system)


def test_a_stopped_worker_ends_its_batch_within_the_grace_period(system: Composed) -> None:
    run = begin(system)
    began = time.monotonic()

    system.compose("stop", "cpu-worker")

    assert time.monotonic() - began < 60
    lost = system.sql(f"SELECT count(*) FROM scorebeat.batches WHERE run_id = {run} AND state = 'claimed'")
    assert lost == [["0"]], "a worker that is stopped in order leaves no claim behind"
    attempts = system.sql(f"SELECT max(attempt) FROM scorebeat.batches WHERE run_id = {run} AND state = 'committed'")
    assert attempts == [["1"]]
    system.compose("start", "cpu-worker")
    require_right(system, run)

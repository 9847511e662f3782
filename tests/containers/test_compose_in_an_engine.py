"""The whole system in real containers: what is killed, cut off, stopped or replaced loses and doubles no prediction.

All tests share one project, and each begins with a run in its middle: the first batches are committed, both processes
of the worker fetch one each that waits at a gate, and the others are still to come.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from tests.containers.engine import (
    GATE,
    PROCESSES,
    Composed,
    Gate,
    build,
    composed,
    earlier_tree,
    page_commands,
    require_engine,
)
from tests.support.fixtures import wait_for

pytestmark = pytest.mark.wide

ROWS, A_BATCH = 4_000, 200
BEFORE_THE_GATE = 5
"""The batches that are fetched also while the gate is closed."""
JOBS = f"""
[jobs.churn]
query = '''SELECT id, a, b FROM items WHERE CASE
           WHEN id > {BEFORE_THE_GATE * A_BATCH} AND current_setting('application_name') LIKE '% data'
           THEN public.gate_opened() ELSE true END'''
key = "id"
model = "churn"
batch_rows = {A_BATCH}
rescore = "every-run"
"""
WAIT_AT_THE_GATE = f"""
CREATE FUNCTION public.gate_opened() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT pg_try_advisory_xact_lock_shared({GATE}) LOOP
        PERFORM pg_sleep(0.05);
    END LOOP;
    RETURN true;
END $$;
"""
"""It tries again and again: a fetch that waits for a lock gives up early."""
SERVICES = ("cpu-worker", "control", "beat", "flower", "api", "broker", "database")
LEFT_TO_DRAIN = 3.0
"""Seconds that a batch goes on after the signal to its worker."""
NO_API_AT_MOST = 1.0


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The system, from the image of an earlier commit if there is one."""
    require_engine()
    with composed(tmp_path_factory.mktemp("compose")) as made:
        if tree := earlier_tree(made.folder / "earlier"):
            made.use(build(tree, f"{made.name}:earlier"))
        made.compose("up", "--no-build", "--detach", "--wait")
        load(made)
        yield made


@pytest.fixture
def system(earlier: Composed) -> Composed:
    """The system from the image of this tree, healthy."""
    if not is_new(earlier):
        earlier.use(build())
        earlier.compose("up", "--no-build", "--detach", "--wait")
    until_healthy(earlier)
    return earlier


def load(system: Composed) -> None:
    """A table, a model and the job that scores one by the other."""
    rng = np.random.default_rng(3)
    model = LogisticRegression().fit(rng.normal(size=(200, 2)), rng.integers(0, 2, 200))
    skops.io.dump(model, system.folder / "project/churn.skops")
    (system.folder / "project/jobs.toml").write_text(JOBS)
    system.sql(
        f"SELECT setseed(0.5); CREATE TABLE items AS SELECT id::bigint, (random() - 0.5)::float8 AS a,"
        f" (random() - 0.5)::float8 AS b FROM generate_series(1, {ROWS}) AS id;"
        " ALTER TABLE items ADD PRIMARY KEY (id)"
    )
    system.sql(WAIT_AT_THE_GATE)
    system.cli("models", "add", "churn.skops", "--name", "churn", "--inputs", "a,b")
    system.cli("apply")


@dataclass(frozen=True)
class Middle:
    """A run in its middle."""

    run: int
    gate: Gate


@contextmanager
def in_the_middle(system: Composed) -> Iterator[Middle]:
    with system.closed_gate() as gate:
        run = enqueue(system)
        wait_for(lambda: batches(system, run) == (BEFORE_THE_GATE, PROCESSES), 60, every=0.2)
        yield Middle(run, gate)


def enqueue(system: Composed) -> int:
    made = system.request("POST", "/runs", json={"job": "churn"})
    assert made is not None
    assert made.status_code == 201, made.text
    return int(made.json()["run"])


def batches(system: Composed, run: int) -> tuple[int, int]:
    """How many are committed, and how many are claimed."""
    ((committed, claimed),) = system.sql(
        "SELECT count(*) FILTER (WHERE state = 'committed'), count(*) FILTER (WHERE state = 'claimed')"
        f" FROM scorebeat.batches WHERE run_id = {run}"
    )
    return int(committed), int(claimed)


def attempts(system: Composed, run: int) -> list[int]:
    """Of the batches, as they were planned."""
    return [
        int(attempt)
        for (attempt,) in system.sql(f"SELECT attempt FROM scorebeat.batches WHERE run_id = {run} ORDER BY number")
    ]


def workers(system: Composed, run: int) -> int:
    """How many worked at the run."""
    return int(system.sql(f"SELECT count(DISTINCT claimed_by) FROM scorebeat.batches WHERE run_id = {run}")[0][0])


def require_right(system: Composed, run: int, within: float = 240) -> None:
    """The run ends, and each row has exactly one prediction: the one of a plain loop over the model."""
    state = f"SELECT state FROM scorebeat.runs WHERE id = {run}"
    wait_for(lambda: system.sql(state, check=False) == [["succeeded"]], within, every=0.2)
    model = skops.io.load(system.folder / "project/churn.skops")
    rows = system.sql("SELECT i.id, i.a, i.b, p.label FROM items i LEFT JOIN predictions.churn p USING (id) ORDER BY 1")
    assert len(rows) == ROWS
    inputs = np.array([[float(a), float(b)] for _, a, b, _ in rows])
    assert [int(label) for *_, label in rows] == model.predict(inputs).tolist()
    assert system.sql("SELECT count(*), count(DISTINCT id) FROM predictions.churn") == [[str(ROWS)] * 2]
    assert system.sql("SELECT DISTINCT run_id FROM predictions.churn JOIN scorebeat.batches b ON b.id = batch_id") == [
        [str(run)]
    ]


def is_new(system: Composed) -> bool:
    return system.runs(build(), "api")


def revision(system: Composed) -> str:
    """Of the ledger."""
    return system.sql("SELECT version_num FROM scorebeat.alembic_version")[0][0]


def makes_an_index(system: Composed) -> bool:
    """Whether a migration waits for the batches that are being fetched, as one does that blocks none of them."""
    return system.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'virtualxid'") != []


def words(command: str) -> list[str]:
    """Of a command of the page, behind `docker compose`."""
    return command.split()[2:]


def until_healthy(system: Composed) -> None:
    wait_for(lambda: set(system.health().values()) == {"healthy"} and set(system.health()) == set(SERVICES), 240)


@dataclass
class Probe:
    """Requests the runs from the API every 50 ms, as a proxy with both of its ports would."""

    system: Composed
    longest: float = 0.0
    """Seconds without a good response."""
    requests: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        good = time.monotonic()
        while not self._stop.wait(0.05):
            response = self.system.request("GET", "/runs?limit=1")
            now = time.monotonic()
            if response is not None and response.status_code == httpx.codes.OK:
                good = now
            self.longest = max(self.longest, now - good)
            self.requests += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self.watch)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def test_a_new_image_replaces_an_old_one_in_mid_run_and_the_api_goes_on(earlier: Composed) -> None:
    if is_new(earlier):
        pytest.skip("the history of this repository is not here, or no image of it is older")
    old = revision(earlier)
    built, migrate, beside, last = page_commands("--scale api=2")
    (worker,) = earlier.containers("cpu-worker")
    probe = Probe(earlier)

    with probe.watching():
        assert built == "docker compose build"
        earlier.use(build())
        with in_the_middle(earlier) as middle, earlier.beside(*words(migrate)):
            wait_for(lambda: revision(earlier) > old or makes_an_index(earlier))
            middle.gate.open()
        require_right(earlier, middle.run)
        assert revision(earlier) > old
        with in_the_middle(earlier) as middle:
            earlier.shell(beside)
            assert batches(earlier, middle.run) == (BEFORE_THE_GATE, PROCESSES)
            with earlier.beside(*words(last)):
                wait_for(lambda: earlier.signalled(worker))
                middle.gate.open()
            require_right(earlier, middle.run)

    assert probe.longest < NO_API_AT_MOST
    assert is_new(earlier)
    assert max(attempts(earlier, middle.run)) == 1
    assert workers(earlier, middle.run) == 2


def test_all_services_become_healthy_and_score_a_run(system: Composed) -> None:
    require_right(system, enqueue(system))


@pytest.mark.parametrize("service", ["cpu-worker", "control", "broker", "database"])
def test_a_service_that_is_killed_costs_no_prediction(system: Composed, service: str) -> None:
    with in_the_middle(system) as middle:
        system.kill(service)

    require_right(system, middle.run)


def test_services_that_score_nothing_may_be_killed_together(system: Composed) -> None:
    with in_the_middle(system) as middle:
        for service in ("beat", "flower", "api"):
            system.kill(service)

    require_right(system, middle.run)
    until_healthy(system)


def test_an_emptied_broker_costs_no_prediction(system: Composed) -> None:
    with in_the_middle(system) as middle:
        system.compose("exec", "-T", "broker", "redis-cli", "flushall")

    require_right(system, middle.run)


def test_a_worker_that_is_cut_from_the_broker_commits_what_it_has(system: Composed) -> None:
    with in_the_middle(system) as middle:
        system.cut("cpu-worker", "broker")
        middle.gate.open()
        wait_for(lambda: batches(system, middle.run)[0] >= BEFORE_THE_GATE + PROCESSES, 30, every=0.2)
        assert batches(system, middle.run)[0] < ROWS // A_BATCH
        system.heal("cpu-worker")

    require_right(system, middle.run)
    assert max(attempts(system, middle.run)) == 1


@pytest.mark.parametrize("servers", [("database",), ("database", "broker")], ids="+".join)
def test_a_worker_cut_off_from_the_database_loses_its_claims(system: Composed, servers: tuple[str, ...]) -> None:
    with in_the_middle(system) as middle:
        system.cut("cpu-worker", *servers)
        wait_for(lambda: batches(system, middle.run) == (BEFORE_THE_GATE, 0), 60, every=0.5)
        middle.gate.open()  # what it waits for comes as soon as the network is whole
        system.heal("cpu-worker")

    require_right(system, middle.run)
    lost = attempts(system, middle.run)[BEFORE_THE_GATE : BEFORE_THE_GATE + PROCESSES]
    assert min(lost) > 1, "both batches were claimed anew"


def test_a_second_worker_takes_its_part(system: Composed) -> None:
    with in_the_middle(system) as middle:
        system.compose("up", "--no-build", "--no-recreate", "--detach", "--scale", "cpu-worker=2")
        wait_for(lambda: batches(system, middle.run) == (BEFORE_THE_GATE, 2 * PROCESSES), 60, every=0.2)

    require_right(system, middle.run)
    assert workers(system, middle.run) == 2
    system.compose("up", "--no-build", "--no-recreate", "--detach", "--scale", "cpu-worker=1")


def test_a_stopped_worker_ends_its_long_batches_and_takes_no_other(system: Composed) -> None:
    (worker,) = system.containers("cpu-worker")
    with in_the_middle(system) as middle:
        with system.beside("stop", "cpu-worker"):
            wait_for(lambda: system.signalled(worker))
            time.sleep(LEFT_TO_DRAIN)  # a batch that is still being fetched
            assert system.containers("cpu-worker") == [worker]
            middle.gate.open()
        assert batches(system, middle.run) == (BEFORE_THE_GATE + PROCESSES, 0), "no claim is left behind"
        system.compose("start", "cpu-worker")

    require_right(system, middle.run)
    assert max(attempts(system, middle.run)) == 1


def test_a_batch_that_outlasts_the_grace_period_goes_to_the_next_worker(system: Composed) -> None:
    with in_the_middle(system) as middle:
        system.compose("stop", "--timeout", "2", "cpu-worker")
        assert batches(system, middle.run) == (BEFORE_THE_GATE, PROCESSES), "killed with two claims"
        system.compose("start", "cpu-worker")

    require_right(system, middle.run)
    assert min(attempts(system, middle.run)[BEFORE_THE_GATE : BEFORE_THE_GATE + PROCESSES]) > 1


def test_everything_goes_down_in_mid_run_and_comes_up_with_its_data(system: Composed) -> None:
    (worker,) = system.containers("cpu-worker")
    with in_the_middle(system) as middle, system.beside("down"):
        wait_for(lambda: system.signalled(worker))
        middle.gate.open()
    system.compose("up", "--no-build", "--detach", "--wait")

    require_right(system, middle.run)


def test_an_empty_system_goes_on_from_a_backup(system: Composed) -> None:
    with in_the_middle(system) as middle:
        for command in page_commands("pg_dump"):
            system.shell(command)
    system.compose("--profile", "cli", "down", "--volumes", "--timeout", "10")

    for command in page_commands("pg_restore"):
        if command != "docker compose build":
            system.shell(command)

    require_right(system, middle.run)
    require_right(system, enqueue(system))

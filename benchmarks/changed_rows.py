"""A tick that finds 1,000 new and 1,000 changed rows by a watermark, beside few scored rows and beside many."""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.bench_stack import ITEMS, Bench, add, system, train
from benchmarks.measure import Timed, checkpoint, spread, timed_run
from scorebeat.core.jobs.job import Job
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.producer.context import Producer
from scorebeat.producer.requests.apply import apply

CHANGES = 1_000
"""New rows of a tick, and changed ones."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=50_000)
    options.add_argument("--many", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    print(json.dumps(changed_rows(chosen.few, chosen.many, chosen.rounds), indent=1))


def changed_rows(few: int, many: int, rounds: int = 7) -> dict[str, Any]:
    """Ticks in turn beside `few` and beside `many` scored rows: seconds, and the ratio of each pair."""
    sizes = {"few": few, "many": many}
    with system(lambda p, folder: _prepare(p, folder, sizes)) as b:
        for name, rows in sizes.items():
            _change(b, name, rows, rounds + 1)
            timed_run(b, job=name)  # it compares every key, and leaves a watermark
        timed: dict[str, list[Timed]] = {name: [] for name in sizes}
        for number in range(rounds + 1):
            for name, rows in sizes.items():
                _change(b, name, rows, number)
                checkpoint(b, f"{name}__linear_v1")
                run = timed_run(b, job=name)
                if number:  # the first loads the model
                    timed[name].append(run)
    pairs = list(zip(timed["few"], timed["many"], strict=True))
    assert {run.rows for pair in pairs for run in pair} == {2 * CHANGES}
    return {
        "scored rows": sizes,
        "rows of a tick": 2 * CHANGES,
        "enqueue to last commit, seconds": {name: spread([t.seconds for t in runs]) for name, runs in timed.items()},
        "of that planning, seconds": {name: spread([t.planned for t in runs]) for name, runs in timed.items()},
        "many beside few": spread([many.seconds / few.seconds for few, many in pairs]),
    }


def _job(name: str) -> Job:
    query = f"SELECT id, a, b, c, d, updated_at FROM {name}"
    return ITEMS.model_copy(update={"name": name, "query": query, "changed_at": "updated_at"})


def _prepare(p: Producer, folder: Path, sizes: dict[str, int]) -> Artifact:
    listed = [_job(name) for name in sizes]
    for name, rows in sizes.items():
        _fill(p, name, rows)
    artifact = add(p, listed[0], train(folder), AddOptions(("a", "b", "c", "d")))
    apply(p, listed, "benchmark")
    for name in sizes:
        with p.engine.begin() as connection:
            connection.exec_driver_sql(
                f"INSERT INTO predictions.{name}__linear_v1 (id, label, x, y, z, batch_id, scorebeat_changed_at)"
                f" SELECT id, 'x', 1, 0, 0, 0, updated_at FROM {name}"
            )
    return artifact


def _fill(p: Producer, name: str, rows: int) -> None:
    with p.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {name} AS SELECT i::bigint AS id, random() AS a, random() AS b, random() AS c,"
            f" random() AS d, now() - interval '1 day' AS updated_at FROM generate_series(1, {rows}) i"
        )
        connection.exec_driver_sql(f"ALTER TABLE {name} ADD PRIMARY KEY (id), ALTER updated_at SET DEFAULT now()")
        connection.exec_driver_sql(f"CREATE INDEX ON {name} (updated_at)")
        connection.exec_driver_sql(f"VACUUM ANALYZE {name}")


def _change(b: Bench, name: str, rows: int, number: int) -> None:
    with b.engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO {name} SELECT {rows + number * CHANGES} + i, random(), random(), random(), random()"
            f" FROM generate_series(1, {CHANGES}) i"
        )
        connection.exec_driver_sql(
            f"UPDATE {name} SET a = random(), updated_at = clock_timestamp()"
            f" WHERE id % {rows // CHANGES} = {number + 1} AND id <= {rows}"
        )


if __name__ == "__main__":
    main()

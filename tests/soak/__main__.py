"""`make soak`: faults for some minutes over a run, then the count: doubled, lost and wrong rows must be none."""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.core.data_folder import running_stack
from scorebeat.core.errors import ScorebeatError
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import runs
from scorebeat.producer.context import Producer
from tests.soak.faults import FAULTS, System
from tests.soak.others import Writer, bad_rows, by_watermark, enqueued, is_final
from tests.soak.schedule import planned

TIMES = {
    "SCOREBEAT_CLAIM_TTL": "4",
    "SCOREBEAT_HEARTBEAT": "1",
    "SCOREBEAT_RESEND_AFTER": "2",
    "SCOREBEAT_BACKOFF": "0.5",
    "SCOREBEAT_BACKOFF_CAP": "5",
    "SCOREBEAT_MAX_ATTEMPTS": "50",
    "SCOREBEAT_BATCH_TIME_LIMIT": "20",
    "SCOREBEAT_CHUNK_TIME_LIMIT": "8",
    "SCOREBEAT_ROW_TIME_LIMIT": "3",
}
"""Short, so that minutes hold many faults; attempts many, because the environment is made to fail."""
PROCESSES = 4
KINDS = {"raise": 20, "nan": 20, "exit": 6, "segfault": 4, "hang": 3}
"""Poison rows of each kind in the run."""


@dataclass
class Recoveries:
    """Seconds from each fault to the next commit."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    open: tuple[str, float, int] | None = None

    def begin(self, fault: str, scored: int) -> None:
        self.open = (fault, time.monotonic(), scored)

    def look(self, scored: int) -> None:
        if self.open is not None and scored > self.open[2]:
            self.seconds[self.open[0]].append(time.monotonic() - self.open[1])
            self.open = None


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--rows", type=int, default=2_000_000)
    options.add_argument("--every", type=float, default=5, help="seconds between faults")
    options.add_argument("--seed", type=int, default=None, help="replays the faults of an earlier soak")
    chosen = options.parse_args()
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    print(f"seed {seed}: {chosen.rows:,} rows, faults for {chosen.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return _soak(Path(folder), chosen, seed)


def _soak(folder: Path, chosen: argparse.Namespace, seed: int) -> int:
    poisoned = _poison(chosen.rows, random.Random(seed))
    # both workers together need about the time of the faults, so that these find work in progress
    pace = chosen.minutes * 60 * PROCESSES * 0.8 / chosen.rows
    environment = (
        os.environ
        | TIMES
        | {
            "SCOREBEAT_DATA": str(folder / "data"),
            "SCOREBEAT_ARTIFACTS": str(folder / "artifacts"),
        }
    )
    log = (folder / "log").open("wb")
    arguments = [str(chosen.rows), json.dumps({**poisoned, "seconds_a_row": pace})]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.system", *arguments], env=environment, stdout=log, stderr=log
    )
    try:
        return _watch(folder, server, chosen, seed, poisoned)
    except BaseException:
        print((folder / "log").read_text("utf-8", "replace")[-8_000:])
        raise
    finally:
        server.terminate()
        server.wait(timeout=120)
        log.close()


def _watch(
    folder: Path,
    server: "subprocess.Popen[bytes]",
    chosen: argparse.Namespace,
    seed: int,
    poisoned: dict[str, list[int]],
) -> int:
    settings = _settings(folder, server)
    run_id = enqueued(Producer(settings, "soak"), "soak", time.monotonic() + 120)
    engine = make_engine(settings.database(), "scorebeat soak")
    faults = planned(seed, list(FAULTS), chosen.every)
    fault = next(faults)
    system = System(server.pid, settings, fault.random)
    counts: dict[str, int] = defaultdict(int)
    recoveries = Recoveries()
    writer = Writer(settings.database(), seed)
    writer.start()
    began, next_fault = time.monotonic(), time.monotonic() + fault.pause
    while not is_final(engine, run_id):
        assert server.poll() is None, "the supervisor ended"
        scored = _scored(engine, run_id)
        if scored is not None:
            recoveries.look(scored)
        now = time.monotonic()
        assert now - began < chosen.minutes * 60 * 4 + 300, f"the run did not end: {scored} rows scored"
        if now >= next_fault and now - began < chosen.minutes * 60 and scored is not None:
            done = _hurt(replace(system, random=fault.random), fault.name)
            if done:
                counts[fault.name] += 1
                recoveries.begin(fault.name, scored)
                print(f"{now - began:6.0f} s  {scored:>9,} rows  {fault.name}: {done}", flush=True)
            fault = next(faults)
            next_fault = now + fault.pause
        time.sleep(0.2)
    writer.stopped.set()
    writer.join()
    others = bad_rows(settings, engine)
    print(f"beside it {writer.committed:,} transactions changed rows; lost, doubled, wrong or stale: {others}")
    print("runs of changed rows that began at a watermark: {} of {}".format(*by_watermark(engine)))
    return _report(engine, run_id, chosen.rows, poisoned, counts, recoveries) or int(any(others.values()))


def _hurt(system: System, name: str) -> str | None:
    try:
        return FAULTS[name](system)
    except (OSError, ScorebeatError) as error:
        return f"not done: {error}"
    except Exception as error:  # noqa: BLE001 -- the broker may be away when a fault needs it; that is the soak
        return f"not done: {type(error).__name__}"


def _settings(folder: Path, server: "subprocess.Popen[bytes]") -> Settings:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, "the system did not start"
        urls = running_stack(folder / "data")
        if urls is not None:
            return Settings(_env_file=None, database_url=urls.database_url, broker_url=urls.broker_url)
        time.sleep(0.2)
    raise AssertionError("the servers did not start")


def _scored(engine: Engine, run_id: int) -> int | None:
    """Rows scored so far; None while the database is away."""
    try:
        with engine.connect() as connection:
            return int(
                connection.exec_driver_sql(
                    f"SELECT coalesce(sum(rows_scored), 0) FROM scorebeat.batches WHERE run_id = {run_id:d}"
                ).scalar_one()
            )
    except DBAPIError:
        return None


def _report(
    engine: Engine,
    run_id: int,
    rows: int,
    poisoned: dict[str, list[int]],
    counts: dict[str, int],
    recoveries: Recoveries,
) -> int:
    table = "predictions.soak__poison_v1"
    with engine.connect() as connection:

        def count(sql: str) -> int:
            return int(connection.exec_driver_sql(sql).scalar_one())

        run = runs.get(connection, run_id)
        scored = count(f"SELECT count(*) FROM {table}")
        of_run = f"batch_id IN (SELECT id FROM scorebeat.batches WHERE run_id = {run_id:d})"
        keys = connection.exec_driver_sql(f"SELECT key FROM scorebeat.quarantine WHERE {of_run}").scalars()
        quarantined = {int(key[0]) for key in keys}
        doubled = (
            scored
            - count(f"SELECT count(DISTINCT id) FROM {table}")
            + count(
                f"SELECT count(*) FROM {table} p JOIN scorebeat.quarantine q ON q.key = jsonb_build_array(p.id::text)"
                f" AND q.{of_run}"
            )
        )
        wrong = count(f"SELECT count(*) FROM {table} p JOIN items USING (id) WHERE p.value IS DISTINCT FROM 2 * x")
        dead = count(f"SELECT count(*) FROM scorebeat.batches WHERE state = 'dead' AND run_id = {run_id:d}")
    bad = {row for rows_of in poisoned.values() for row in rows_of}
    lost = rows - scored - len(quarantined)
    for name in sorted(counts):
        found = recoveries.seconds.get(name, [])
        times = f"next commit after {statistics.median(found):.1f} s, at worst {max(found):.1f} s" if found else "-"
        print(f"{name:30} {counts[name]:>4}   {times}")
    print(f"run {run_id} {run.state}: {run.reason or ''}")
    print(
        f"rows {rows:,}, scored {scored:,}, quarantined {len(quarantined)} "
        f"({len(quarantined & bad)} of {len(bad)} poison rows, {len(quarantined - bad)} others), dead batches {dead}"
    )
    print(f"doubled {doubled}, lost {lost}, wrong {wrong}, poison scored {len(bad - quarantined)}")
    return int(bool(doubled or lost or wrong or bad - quarantined))


def _poison(rows: int, rng: random.Random) -> dict[str, list[int]]:
    """Different rows for each kind, from all over the table."""
    chosen = rng.sample(range(1, rows + 1), sum(KINDS.values()))
    return {kind: [chosen.pop() for _ in range(count)] for kind, count in KINDS.items()}


if __name__ == "__main__":
    sys.exit(main())

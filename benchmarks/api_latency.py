"""`make bench-api`: one stored prediction by its key, over HTTP beside plain psycopg2, at a fixed rate of requests."""

import argparse
import http.client
import json
import multiprocessing
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import psycopg2
import pyarrow as pa

from benchmarks.bench_stack import ITEMS, fill_items
from scorebeat.core.data_folder import StackUrls
from scorebeat.db.connect.engine import make_engine
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.model_versions import NewVersion
from scorebeat.db.schema import migrate
from scorebeat.models.contract import Input, Signature
from scorebeat.ops.local.servers.embedded import embedded
from scorebeat.producer.versions import prediction_tables

CONNECTIONS = 16
"""Kept alive; more than are ever busy at once."""
Send = Callable[[int], None]
Opener = Callable[[], Send]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rate", type=int, default=200, help="requests a second")
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    print(f"{chosen.rows:,} predictions, {chosen.rate} requests/s, {chosen.rounds} rounds of {chosen.seconds:g} s each")
    print(f"{'round':>5}  {'target':<9} {'sent':>6} {'p50 ms':>7} {'p99 ms':>7} {'most ms':>8} {'load':>5}")
    with tempfile.TemporaryDirectory(prefix="scorebeat-bench-") as name, embedded(Path(name) / "data") as urls:
        prepare(urls, chosen.rows)
        token = secrets.token_hex(16)
        with _api(urls, token, Path(name)) as url:
            targets: dict[str, tuple[str, str]] = {"psycopg2": (urls.database_url, ""), "HTTP": (url, token)}
            for target, where in targets.items():
                measure(target, where, chosen.rows, chosen.rate, 2)  # warm
            for number in range(1, chosen.rounds + 1):
                for target, where in targets.items():
                    found = measure(target, where, chosen.rows, chosen.rate, chosen.seconds)
                    _show(number, target, found)


def prepare(urls: StackUrls, rows: int) -> None:
    """A job with a prediction for each of its rows. Its model is recorded, and has no files."""
    engine = make_engine(urls.database_url)
    inputs = tuple(Input(name, pa.float64()) for name in "abcd")
    outputs = pa.schema([("label", pa.string()), *((f"p{n}", pa.float64()) for n in range(3))])
    with engine.begin() as connection:
        migrate.migrate(connection)
    fill_items(engine, rows)
    with engine.begin() as connection:
        jobs.apply(connection, [ITEMS], "benchmark")
        new = NewVersion("linear", 1, "skops", "none", Signature(inputs, outputs).to_json())
        version = model_versions.add(connection, new, "benchmark")
        prediction_tables.ensure(connection, prediction_tables.fit(connection, urls.database_url, ITEMS, version))
        connection.exec_driver_sql(
            "INSERT INTO predictions.items__linear_v1 (id, label, p0, p1, p2, batch_id)"
            " SELECT id, 'x', a, b, c, 1 FROM items"
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE predictions.items__linear_v1")
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


@contextmanager
def _api(urls: StackUrls, token: str, folder: Path) -> Iterator[str]:
    environment = os.environ | {
        "SCOREBEAT_DATABASE_URL": urls.database_url,
        "SCOREBEAT_BROKER_URL": urls.broker_url,
        "SCOREBEAT_API_TOKEN": token,
    }
    command = [sys.executable, "-u", "-m", "scorebeat.ops.cli", "api", "--port", "0"]
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


def measure(target: str, where: tuple[str, str], rows: int, rate: int, seconds: float) -> list[float]:
    """Milliseconds of each request from its due time. A process of its own sends them."""
    receive, send = multiprocessing.Pipe(duplex=False)
    arguments = (send, target, where, rows, rate, seconds)
    process = multiprocessing.get_context("spawn").Process(target=_generate, args=arguments)
    process.start()
    send.close()
    try:
        found: list[float] = json.loads(receive.recv())
    finally:
        process.join()
    return found


def _generate(send: "multiprocessing.connection.Connection", target: str, where: tuple[str, str], *load: float) -> None:
    opener: Opener = {"psycopg2": lambda: _psycopg2(*where), "HTTP": lambda: _http(*where)}[target]
    rows, rate, seconds = load
    send.send(json.dumps(open_loop(opener, int(rows), rate, seconds)))


def open_loop(opener: Opener, rows: int, rate: float, seconds: float) -> list[float]:
    """Send each request at its due time, however slow the responses are; a late one counts from its due time."""
    random, count = Random(7), int(rate * seconds)  # noqa: S311 -- the requested keys are not secret
    keys = [random.randint(1, rows) for _ in range(count)]
    numbers, took = iter(range(count)), [0.0] * count
    lock, ready = threading.Lock(), threading.Barrier(CONNECTIONS + 1)
    began = [0.0]

    def work() -> None:
        request = opener()
        ready.wait()
        ready.wait()
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            due = began[0] + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            request(keys[number])
            took[number] = (time.perf_counter() - due) * 1000

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    ready.wait()
    began[0] = time.perf_counter() + 0.05
    ready.wait()
    for thread in threads:
        thread.join()
    return took


def _psycopg2(url: str, _token: str) -> Send:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    cursor = connection.cursor()

    def request(key: int) -> None:
        cursor.execute("SELECT * FROM predictions.items WHERE id = %s", (key,))
        assert cursor.fetchone()[0] == key

    return request


def _http(url: str, token: str) -> Send:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    headers = {"Authorization": f"Bearer {token}"}

    def request(key: int) -> None:
        connection.request("GET", f"/data/{key}", headers=headers)
        found = json.loads(connection.getresponse().read())
        assert found["prediction"]["id"] == key

    return request


def _show(number: int, target: str, took: list[float]) -> None:
    cuts = statistics.quantiles(took, n=100)
    load = f"{cuts[49]:7.2f} {cuts[98]:7.2f} {max(took):8.2f} {os.getloadavg()[0]:5.1f}"
    print(f"{number:5}  {target:<9} {len(took):6} {load}", flush=True)


if __name__ == "__main__":
    main()

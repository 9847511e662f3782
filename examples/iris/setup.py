"""Sets the example up; safe to repeat: python -m scorebeat.examples.iris.setup."""

import sys
import tempfile
from pathlib import Path
from shlex import quote

from scorebeat.core.errors import ScorebeatError
from scorebeat.db.ledger import model_versions
from scorebeat.examples.iris import data, items, train
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.versions import publish

JOBS = Path(__file__).absolute().parent / "jobs.toml"
MODEL = "iris"


def fill(producer: Producer, count: int = data.COUNT) -> int:
    """Fill the table with `count` flowers; returns how many were added: 0 if it already had some."""
    with producer.engine.begin() as connection:
        items.create(connection)
        return items.fill(connection, data.rows(count).tolist())


def add_model(producer: Producer, by: str) -> bool:
    """Train and add the model; False if a version already exists."""
    with producer.engine.connect() as connection:
        if model_versions.listing(connection, MODEL):
            return False
    with tempfile.TemporaryDirectory() as folder:
        model, _ = train.train()
        train.write_skops(model, Path(folder) / "iris.skops")
        publish.add(producer, Path(folder) / "iris.skops", MODEL, by)
    return True


def main() -> int:
    """Make the table, its rows and the model; `scorebeat apply` applies the job."""
    try:
        with database() as producer:
            print(f"table items: {fill(producer):,} rows added")
            print(f"model {MODEL}: {'added' if add_model(producer, whoami()) else 'already there'}")
    except ScorebeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"next: scorebeat apply --file {quote(str(JOBS))}, then scorebeat enqueue iris --wait")
    return 0


if __name__ == "__main__":
    sys.exit(main())

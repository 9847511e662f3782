"""Sets the example up, as often as you like: python -m scorebeat.examples.complaints.setup [ROWS]."""

import sys
import tempfile
from pathlib import Path
from shlex import quote

from scorebeat.core.errors import ScorebeatError
from scorebeat.db.ledger import model_versions
from scorebeat.examples.complaints import data, table, train
from scorebeat.models.contract import Given
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.versions import publish

JOBS = Path(__file__).absolute().parent / "jobs.toml"
MODEL = "sentiment"


def fill(p: Producer, count: int = data.COUNT) -> int:
    """The table with `count` complaints; returns how many were added, none when it has some already."""
    with p.engine.begin() as connection:
        table.create(connection)
        return table.fill(connection, data.complaints(count))


def add_model(p: Producer, by: str) -> float | None:
    """Train and add the model; its accuracy on texts that it never saw, None when a version is there already."""
    with p.engine.connect() as connection:
        if model_versions.listing(connection, MODEL):
            return None
    with tempfile.TemporaryDirectory() as folder:
        model, accuracy = train.train()
        train.write_skops(model, Path(folder) / "sentiment.skops")
        publish.add(p, Path(folder) / "sentiment.skops", MODEL, by, Given(train.INPUTS))
    return accuracy


def main(count: int) -> int:
    """Table, rows and model; the job is applied by `scorebeat apply`."""
    try:
        with database() as p:
            print(f"table complaints: {fill(p, count):,} rows added")
            accuracy = add_model(p, whoami())
    except ScorebeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"model {MODEL}: {'was there' if accuracy is None else f'added, accuracy {accuracy:.3f} on unseen texts'}")
    print(f"next: scorebeat apply --file {quote(str(JOBS))}, then scorebeat enqueue complaints --wait")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else data.COUNT))

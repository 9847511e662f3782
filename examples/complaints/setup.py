"""Sets the example up; safe to repeat: python -m scorebeat.examples.complaints.setup [ROWS]."""

import sys
import tempfile
from pathlib import Path
from shlex import quote

from scorebeat.core.errors import ScorebeatError
from scorebeat.db.ledger import model_versions
from scorebeat.examples.complaints import data, table, train
from scorebeat.models.contract import AddOptions
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.versions import publish

JOBS = Path(__file__).absolute().parent / "jobs.toml"
MODEL = "sentiment"


def fill(producer: Producer, count: int = data.COUNT) -> int:
    """Fill the table with `count` complaints; returns how many were added: 0 if it already had some."""
    with producer.engine.begin() as connection:
        table.create(connection)
        return table.fill(connection, data.complaints(count))


def add_model(producer: Producer, by: str) -> float | None:
    """Train and add the model. Returns its accuracy on texts that it never saw; None if a version already exists."""
    with producer.engine.connect() as connection:
        if model_versions.listing(connection, MODEL):
            return None
    with tempfile.TemporaryDirectory() as folder:
        model, accuracy = train.train()
        train.write_skops(model, Path(folder) / "sentiment.skops")
        publish.add(producer, Path(folder) / "sentiment.skops", MODEL, by, AddOptions(train.INPUTS))
    return accuracy


def main(count: int) -> int:
    """Make the table, its rows and the model; `scorebeat apply` applies the job."""
    try:
        with database() as producer:
            print(f"table complaints: {fill(producer, count):,} rows added")
            accuracy = add_model(producer, whoami())
    except ScorebeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"model {MODEL}: {'already there' if accuracy is None else f'added, accuracy {accuracy:.3f} on unseen texts'}"
    )
    print(f"next: scorebeat apply --file {quote(str(JOBS))}, then scorebeat enqueue complaints --wait")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else data.COUNT))

"""Sets the example up; safe to repeat: python -m scorebeat.examples.churn.setup."""

import sys
import tempfile
from pathlib import Path
from shlex import quote

import pyarrow.parquet as pq

from scorebeat.core.errors import ScorebeatError
from scorebeat.db.ledger import model_versions
from scorebeat.examples.churn import customers, train
from scorebeat.models.contract import AddOptions
from scorebeat.models.inputs.sample_file import SampleFile
from scorebeat.models.trial.reference import MOST
from scorebeat.ops.cli.context import database
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.versions import publish

JOBS = Path(__file__).absolute().parent / "jobs.toml"
MODEL = "churn"


def load(producer: Producer, night: int, *, campaign: bool = False) -> int:
    """Load the customers of a night; returns how many they are."""
    with producer.engine.begin() as connection:
        return customers.load(connection, customers.night(night, campaign=campaign))


def add_model(producer: Producer, by: str) -> bool:
    """Train and add the model with its training data as reference; False if a version already exists."""
    with producer.engine.connect() as connection:
        if model_versions.listing(connection, MODEL):
            return False
    with tempfile.TemporaryDirectory() as folder:
        train.write_skops(train.train(), Path(folder) / "churn.skops")
        training = Path(folder) / "training.parquet"
        pq.write_table(train.training_data(), training)
        options = AddOptions(train.INPUTS, reference=SampleFile(training, MOST, "--reference"))
        publish.add(producer, Path(folder) / "churn.skops", MODEL, by, options)
    return True


def main() -> int:
    """Make the table, the first night and the model; `scorebeat apply` applies the job."""
    try:
        with database() as producer:
            print(f"table customers: {load(producer, 1):,} rows")
            print(f"model {MODEL}: {'added' if add_model(producer, whoami()) else 'already there'}")
    except ScorebeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"next: scorebeat apply --file {quote(str(JOBS))}, then scorebeat enqueue churn --wait")
    return 0


if __name__ == "__main__":
    sys.exit(main())

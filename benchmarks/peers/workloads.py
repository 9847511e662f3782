"""The workloads: a table with the key `id`, and a classifier with three classes."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
from sklearn.ensemble import RandomForestClassifier

from benchmarks.bench_stack import ITEMS, add, classifier, fill_items
from scorebeat.core.jobs.job import Job
from scorebeat.db.connect.engine import data_connection
from scorebeat.examples.complaints import data, train
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.producer.context import Producer

AT_ONCE = 20_000
MODEL = "model.joblib"


@dataclass(frozen=True)
class Workload:
    """What all score. The job's query reads the whole table."""

    name: str
    title: str
    rows: int
    """Of the table, by default."""
    job: Job
    table: str
    inputs: tuple[str, ...]
    """As `models add` takes them."""
    peers_batch_rows: int
    fill: Callable[[Producer, int], None]
    fitted: Callable[[], Any]
    """Fits the classifier."""

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name.partition(":")[0] for name in self.inputs)

    @property
    def is_text(self) -> bool:
        return self.inputs[0].endswith(":string")

    @property
    def set_table(self) -> str:
        """The table of Scorebeat's predictions, in their schema."""
        return f"{self.job.name}__{self.job.model_name}_v1"

    def prepare(self, p: Producer, folder: Path, rows: int) -> Artifact:
        """Fill the table, add the model and apply the job; the peers' file of the model is `folder`/model.joblib."""
        self.fill(p, rows)
        model = self.fitted()
        joblib.dump(model, folder / MODEL)
        train.write_skops(model, folder / "model.skops")
        return add(p, self.job, folder / "model.skops", AddOptions(self.inputs))


def _documents(p: Producer, rows: int) -> None:
    """`documents(id, review)`, the example's complaints that have a text."""
    with p.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE documents (id bigint PRIMARY KEY, review text NOT NULL)")
    texts = (one.consumer_complaint_narrative for one in data.complaints(2 * rows + 100))
    numbered = enumerate(islice(filter(None, texts), rows), 1)
    with data_connection(p.url) as data_side, data_side.cursor() as cursor:
        while part := list(islice(numbered, AT_ONCE)):
            ids, reviews = zip(*part, strict=True)
            cursor.adbc_ingest("documents", pa.table({"id": ids, "review": reviews}), mode="append")
            data_side.commit()
    with p.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE documents")


def _items(p: Producer, rows: int) -> None:
    fill_items(p.engine, rows)


def _forest() -> Any:
    """A hundred trees, fitted to a border that is not straight."""
    random = np.random.default_rng(7)
    features = random.random((5_000, 4))
    score = features.sum(axis=1) + random.normal(scale=0.2, size=len(features))
    classes = np.array(["x", "y", "z"])[np.digitize(score, [1.8, 2.2])]
    return RandomForestClassifier(n_estimators=100, max_depth=10, random_state=7).fit(features, classes)


def _sentiment() -> Any:
    model, _ = train.train()
    return model


NUMBERS = ("a", "b", "c", "d")
WORKLOADS = {
    one.name: one
    for one in (
        Workload("numeric", "four numbers, logistic regression", 1_500_000, ITEMS, "items", NUMBERS, 20_000,
                 _items, classifier),
        Workload("text", "a kilobyte of text, TF-IDF and logistic regression", 100_000,
                 Job(name="documents", query="SELECT id, review FROM documents", key=("id",), model="sentiment",
                     batch_rows=5_000),
                 "documents", train.INPUTS, 2_000, _documents, _sentiment),
        Workload("forest", "four numbers, a hundred trees", 500_000,
                 ITEMS.model_copy(update={"name": "leaves", "model": "forest", "batch_rows": 20_000}),
                 "items", NUMBERS, 10_000, _items, _forest),
    )
}  # fmt: skip

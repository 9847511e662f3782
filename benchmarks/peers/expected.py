"""What the plain model predicts for every row, and whether a table holds just that."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.peers.workloads import Workload
from scorebeat.db.connect.engine import data_connection

AT_ONCE = 20_000
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Expected:
    """Of the ids 1, 2, 3 and so on."""

    outputs: tuple[str, ...]
    """The label's column, then a column for each class."""
    labels: pa.Array
    probabilities: np.ndarray

    def check(self, url: str, table: str, rows: int, who: str) -> None:
        """Raises AssertionError unless the table has each id from 1 to `rows` once, with the model's prediction."""
        columns = ", ".join(f'"{name}"' for name in self.outputs)
        found = _read(url, f"SELECT id, {columns} FROM {table} ORDER BY id")
        ids = found.column(0).to_numpy()
        if not np.array_equal(ids, np.arange(1, rows + 1)):
            missing = np.setdiff1d(np.arange(1, rows + 1), ids)
            raise AssertionError(f"{who}: {len(ids):,} rows instead of {rows:,}; missing are {missing[:5].tolist()}")
        same = pc.equal(found.column(1).combine_chunks().cast("string"), self.labels[:rows]).fill_null(False)
        distances = [
            np.abs(found.column(2 + at).to_numpy() - self.probabilities[:rows, at])
            for at in range(self.probabilities.shape[1])
        ]
        # a comparison with NaN, as a NULL is read, is False
        right = same.to_numpy(zero_copy_only=False) & np.all([each <= TOLERANCE for each in distances], axis=0)
        if not right.all():
            at = int(np.argmin(right))
            raise AssertionError(
                f"{who}: {int((~right).sum()):,} of {rows:,} predictions are wrong; the first is that of the id "
                f"{at + 1}: {found.slice(at, 1).to_pylist()[0]}, and the model predicts {self.labels[at]}, "
                f"{self.probabilities[at].tolist()}"
            )


def expected(url: str, workload: Workload, model: Any) -> Expected:
    """Predict the workload's table with the plain model."""
    outputs = ("label", *map(str, model.classes_))
    columns = ", ".join(workload.columns)
    rows = _read(url, f"SELECT {columns} FROM {workload.table} ORDER BY id")
    labels, probabilities = [], []
    for batch in rows.combine_chunks().to_batches(max_chunksize=AT_ONCE):
        features = batch.column(0).to_pylist() if workload.is_text else np.column_stack(batch.columns)
        labels.append(model.predict(features))
        probabilities.append(model.predict_proba(features))
    return Expected(outputs, pa.array(np.concatenate(labels), "string"), np.concatenate(probabilities))


def _read(url: str, query: str) -> pa.Table:
    with data_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        table = cursor.fetch_arrow_table()
        connection.commit()
        return table

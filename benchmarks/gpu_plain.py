"""The plain loop of `make bench-gpu`: one process, the rows in memory, no database; prints rows a second."""

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from scorebeat.models.artifact import Artifact
from scorebeat.models.formats import registry
from scorebeat.worker.lifecycle.devices import device as devices


def main() -> None:
    name, rows, batch_rows, folder, *which, digest = sys.argv[1:]
    found = devices.find(name)
    found.enter()  # before the model's library is imported
    artifact = Artifact.read(Path(folder), which[0], int(which[1]), digest)
    model = registry.load(artifact, found.kind)
    random = np.random.default_rng(7)
    batch = pa.RecordBatch.from_arrays(
        [pa.array(random.random(int(batch_rows))).cast(i.type) for i in artifact.signature.inputs],
        schema=artifact.signature.columns,
    )
    model.predict(batch)
    began, done = time.perf_counter(), 0
    while done < int(rows):
        done += model.predict(batch).num_rows
    print(done / (time.perf_counter() - began))


if __name__ == "__main__":
    main()

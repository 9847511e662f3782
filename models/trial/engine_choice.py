"""Chooses the engine of a model that is being added: the fastest of those that return the same numbers."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import ModelError
from scorebeat.models.contract import Model
from scorebeat.models.engines import COMPILED, ENGINES, NATIVE, EngineChoice, EngineUnavailable
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.trial import likeness

MEASURED_ROWS = 512
"""Rows of a measurement; fewer rows are repeated."""
_SECONDS = 0.2
_ROUNDS = 3


def choose(model: Model, rows: pa.RecordBatch, predicted: pa.RecordBatch, wanted: str, cache: Path) -> EngineChoice:
    """Compare the engines over rows that the model's library scored as `predicted`, and leave the model on the best.

    `wanted` is the engine that a person named, or empty. Raises ModelError if that one cannot be used.
    """
    use = getattr(model, "use_engine", None)
    if wanted == NATIVE or (use is None and not wanted):
        return EngineChoice(by_person=bool(wanted))
    if use is None:
        raise ModelError(f"--engine {wanted} scores linear models of texts in scikit-learn's formats, and no other")
    try:
        use(COMPILED, cache)
        differing = likeness.difference(
            likeness.of_batch(predicted), likeness.of_batch(MicroBatches(model).predict(rows))
        ).positions
        if differing:
            raise EngineUnavailable(f"it returns other values than the library for {len(differing):,} of these rows")
    except EngineUnavailable as error:
        use(NATIVE, cache)
        if wanted:
            raise ModelError(f"--engine {wanted} cannot be used: {error}") from error
        return EngineChoice(refused=str(error) if getattr(model, "reads_texts", False) else "")
    measured = {}
    for name in ENGINES:
        use(name, cache)
        measured[name] = _rows_per_second(model, rows)
    best = wanted or max(measured, key=lambda name: measured[name])
    use(best, cache)
    return EngineChoice(best, measured, rows.num_rows, by_person=bool(wanted))


def _rows_per_second(model: Model, rows: pa.RecordBatch) -> float:
    """The best of a few rounds: what else the machine does makes the others slower."""
    many = rows.take(pa.array(np.arange(max(rows.num_rows, MEASURED_ROWS)) % rows.num_rows))
    fastest, begun = float("inf"), time.monotonic()
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        MicroBatches(model).predict(many)
        fastest = min(fastest, time.perf_counter() - start)
        if time.monotonic() - begun > _SECONDS:
            break
    return float(many.num_rows / fastest)

"""For a model's own Python code: opens any model file that Scorebeat reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from scorebeat.core.errors import ModelError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Model, Signature
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import bind
from scorebeat.models.scoring import score_rows


class Inner:
    """A model in a file, with the same contract as a version in the store."""

    def __init__(self, model: Model, signature: Signature) -> None:
        self.model = model
        self.signature = signature
        self.outputs = signature.outputs

    def predict(self, rows: Any) -> pa.RecordBatch:
        """Score a RecordBatch, or a dict of columns; its columns feed the inputs by name, as a job's query does.

        Returns a RecordBatch of as many rows, in their order. Raises SignatureError if columns do not fit,
        InputError for values that the model does not take, OutputError if it breaks its contract.
        """
        batch = rows if isinstance(rows, pa.RecordBatch) else pa.RecordBatch.from_pydict(dict(rows))
        return score_rows.predict(self.model, bind(self.signature, batch.schema).apply(batch))


def open_model(
    path: str | Path,
    device: str = "cpu",
    *,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    classes: Iterable[str] = (),
    trust: Iterable[str] = (),
    allow_code: Iterable[str] = (),
) -> Inner:
    """A model file, or an MLflow model folder, ready to score; the options are those of `models add`.

    Raises StoreError if it cannot be used, ModelError if it is damaged or a package is absent.
    """
    path = Path(path)
    add_options = AddOptions(tuple(inputs), tuple(outputs), tuple(classes), frozenset(trust), frozenset(allow_code))
    if not path.exists():
        raise ModelError(f"{path.name} is not there: give it with --file when the model is added")
    model_format = registry.format_of(str(path))
    described = model_format.inspect(path, add_options)
    artifact = Artifact(
        name=path.name,
        version=0,
        digest="",
        folder=path.parent,
        format=model_format.NAME,
        file=path.name,
        devices=model_format.DEVICES,
        signature=described.signature,
        options=described.options,
    )
    return Inner(registry.load(artifact, device), described.signature)

"""Golden rows: inputs of a model with the outputs that it must return for them, on every machine that loads it.

Another version of a library, another processor or a driver may change what a model computes. The rows lie among the
files of the version, whose digest covers them.
"""

from pathlib import Path

import pyarrow as pa

from scorebeat.core.errors import GoldenDiffers, UsageError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import Input, Model, Signature
from scorebeat.models.inputs.binding import bind
from scorebeat.models.inputs.sample_file import SampleFile
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.trial import likeness
from scorebeat.models.trial.steadiness import is_single

FILE = "golden.arrow"
MOST = 1000
"""Rows that are kept: they are scored each time a process loads the version."""
_SHOWN = 3


def keep(folder: Path, signature: Signature, file: Path) -> int:
    """Write the golden rows of a person's file to the folder of a version; returns how many.

    The file has a column for each input and each output. Raises UsageError.
    """
    both = {i.name for i in signature.inputs} & set(signature.outputs.names)
    if both:
        raise UsageError(
            f"--golden {file}: {', '.join(sorted(both))} is an input and an output of the model, and a file has one "
            "column of that name: name the outputs otherwise with --outputs"
        )
    rows = SampleFile(file, MOST, "--golden").read(signature).rows
    inputs = bind(signature, rows.schema).apply(rows)
    wanted = tuple(Input(field.name, field.type) for field in signature.outputs)
    expected = SampleFile(file, MOST, "--golden").read(Signature(wanted, signature.outputs)).rows
    try:
        outputs = expected.select(signature.outputs.names).cast(signature.outputs)
    except pa.ArrowException as error:
        raise UsageError(f"--golden {file}: its outputs are not of the model's types: {error}") from error
    columns = [*inputs.columns, *outputs.columns]
    fields = [*inputs.schema, *outputs.schema]
    whole = pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
    with pa.OSFile(str(folder / FILE), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_batch(whole)
    return int(whole.num_rows)


def require_agreement(artifact: Artifact, model: Model) -> int:
    """Score the version's golden rows here; returns how many there are, 0 for a version without.

    Raises GoldenDiffers naming rows for which the model returns something else than it should.
    """
    path = artifact.folder / FILE
    if not path.exists():
        return 0
    with pa.OSFile(str(path)) as source:
        whole = pa.ipc.open_file(source).read_all().combine_chunks().to_batches()[0]
    signature = artifact.signature
    count = len(signature.inputs)
    inputs = pa.RecordBatch.from_arrays(whole.columns[:count], schema=signature.columns)
    outputs = pa.RecordBatch.from_arrays(whole.columns[count:], schema=signature.outputs)
    found = MicroBatches(model).predict(inputs)
    one, other = likeness.of_batch(found), likeness.of_batch(outputs)
    differing = likeness.difference(one, other, is_single=is_single(inputs, found)).positions
    if differing:
        rows = "; ".join(_row(at, one, other) for at in differing[:_SHOWN]) + "; ..." * (len(differing) > _SHOWN)
        raise GoldenDiffers(
            f"model {artifact} returns other values than its golden rows have, for {len(differing):,} of "
            f"{inputs.num_rows:,}: {rows}. Either these outputs are not the model's own, or another "
            "version of a library, another processor or driver computes otherwise here: compare the installed packages"
        )
    return int(inputs.num_rows)


def _row(at: int, found: list[likeness.Values], expected: list[likeness.Values]) -> str:
    for one, other in zip(found, expected, strict=True):
        if likeness.difference([one[at : at + 1]], [other[at : at + 1]]).positions:
            return f"row {at + 1} gives {one[at]!s}, not {other[at]!s}"
    return f"row {at + 1}"

"""The profile of training data, which the runs of a version are compared with."""

from scorebeat.core.errors import ModelError, UsageError
from scorebeat.drift.profile import Profile
from scorebeat.models.contract import Model, Signature
from scorebeat.models.formats.shared import refusals
from scorebeat.models.inputs.binding import bind
from scorebeat.models.inputs.samples import Sample
from scorebeat.models.scoring.micro_batches import MicroBatches

MOST = 200_000
"""Rows that are read: quantiles change little beyond."""
LEAST = 100
PART = 10_000
"""Rows that are scored at once."""


def profile_of(model: Model, signature: Signature, sample: Sample) -> tuple[Profile, str]:
    """The profile of these rows and of the model's predictions for them, and where the rows come from.

    Raises UsageError for rows that do not fit the model, or for too few; ModelError if it does not score them.
    """
    sampled = sample.read(signature)
    if sampled.rows.num_rows < LEAST:
        raise UsageError(
            f"--reference {sampled.source} has {sampled.rows.num_rows:,} rows, and so few show nothing of the "
            f"data that the model was trained on: expected {LEAST} at least. Nothing was added"
        )
    rows = bind(signature, sampled.rows.schema).apply(sampled.rows)
    whole = Profile()
    for start in range(0, rows.num_rows, PART):
        part = rows.slice(start, PART)
        try:
            whole.merge(Profile.of(part, MicroBatches(model).predict(part)))
        except Exception as error:
            where = f"rows {start + 1:,} to {start + part.num_rows:,} of {sampled.source}"
            raise ModelError(
                f"it does not score the reference, {where}: it raised {refusals.error_summary(error)}. Leave out rows "
                "that it cannot score"
            ) from error
    return whole, f"{sampled.source}, {rows.num_rows:,} rows"

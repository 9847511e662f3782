"""The gate of a job: why a finished run should wait for a person before readers see it."""

from collections.abc import Iterator

from scorebeat.db.closing.run_ends import Tally
from scorebeat.db.closing.run_profiles import Judged
from scorebeat.db.ledger.runs import Run
from scorebeat.drift.profile import LENGTH, Column, Profile

CONSTANT_FROM = 30
"""Rows of a sample from which on one value for all of them is no chance of a small run."""

NAMED = 4
"""Drifted columns that a reason names: it is one line of lists, logs and notices."""


def reasons(run: Run, tally: Tally, judged: Judged) -> list[str]:
    """The conditions of the gate that the run does not meet; empty without a gate, or for a run without a row.

    A run whose profile failed meets none that needs one. A run with too few rows for a comparison, or without a
    reference, passes: `min_rows` of the gate is for who wants to see it first.
    """
    gate = run.job.gate
    if gate is None or tally.scored + tally.failed == 0:
        return []
    found = []
    if judged.failure is not None and (gate.drift or gate.constant or gate.missing is not None):
        found.append(f"it could not be compared: {judged.failure}")
    if gate.drift is not None:
        found += [f"drift of {one.side} {one.name}: {'; '.join(one.reasons)}" for one in judged.drifted[:NAMED]]
        if len(judged.drifted) > NAMED:
            found.append(f"drift of {len(judged.drifted) - NAMED} more columns: `scorebeat drift {run.job.name}`")
    if gate.constant is not None and judged.profile is not None:
        found += _constant(judged.profile)
    if gate.missing is not None:
        # quarantined, or with NULL or NaN in an output, by the sample
        outputs = judged.profile.outputs.values() if judged.profile is not None else ()
        without = max((column.missing for column in outputs), default=0.0)
        share = (tally.failed + without * tally.scored) / (tally.failed + tally.scored)
        if share > gate.missing:
            found.append(f"{share:.1%} of the rows have no prediction, more than {gate.missing:.1%}")
    if gate.min_rows is not None and tally.scored < gate.min_rows:
        found.append(f"{tally.scored:,} rows were scored, fewer than {gate.min_rows:,}")
    return found


def not_compared(run: Run, judged: Judged) -> str | None:
    """Why nothing vouches for the run, if that is to be reported: a failure, or what lets it pass its gate."""
    is_gated = run.job.gate is not None and run.job.gate.drift is not None
    return judged.failure or (judged.why_not if is_gated else None)


def _constant(profile: Profile) -> Iterator[str]:
    for name, column in profile.outputs.items():
        value = None if name.endswith(LENGTH) else _only_value(column)  # arrays usually have one length
        if column.rows >= CONSTANT_FROM and value is not None:
            yield f"output {name} is {value} in all {column.rows:,} sampled rows"


def _only_value(column: Column) -> str | None:
    """The value that every row has; None if there are several."""
    if column.nulls + column.nans + column.infinite:
        missing = max(column.nulls, column.nans, column.infinite) == column.rows
        return "missing" if missing else None
    counts = column.counts()
    if len(counts) == 1:
        return column.name(next(iter(counts)))
    numbers = column.numbers
    is_number = column.type not in ("string", "large_string") and not numbers.is_empty()
    return f"{numbers.get_min_value():g}" if is_number and numbers.get_min_value() == numbers.get_max_value() else None

"""The trial of a model that is being added: whether it scores rows, always equally, and as its own library does."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from scorebeat.core.errors import ModelError, OutputError, ScorebeatError, SignatureError, text
from scorebeat.drift.profile import Profile
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Model
from scorebeat.models.engines import CHOSEN_NATIVE, NATIVE, EngineChoice
from scorebeat.models.evidence import INVENTED, Evidence
from scorebeat.models.formats import registry
from scorebeat.models.formats.shared import refusals
from scorebeat.models.inputs.binding import bind
from scorebeat.models.inputs.own_rows import OwnRows, frame_of
from scorebeat.models.inputs.samples import Sampled, inventions
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.scoring.score_rows import find_failing_row
from scorebeat.models.trial import engine_choice, golden, likeness, reference
from scorebeat.models.trial.likeness import Values
from scorebeat.models.trial.steadiness import dependence, is_single

INVENTED_ROWS = 8
_SHOWN = 5
_CERTAIN = (OutputError, SignatureError, TypeError, AttributeError, NameError, ImportError, NotImplementedError)
"""Errors that would be the same for any other row."""
_ALIKE = (
    "the invented rows that it scores are all alike, which shows nothing of how a prediction depends on other rows: "
    "give some rows with --sample FILE or --sample-job JOB"
)
_SHAPES = re.compile(
    r"features?, but|expecting \d+ features|shapes? .*(not aligned|cannot be multiplied|mismatch)|size mismatch|"
    r"core dimension|[Ii]nvalid (rank|dimensions)|not equal to number of features",
)
"""Messages of libraries for a matrix of the wrong width."""


@dataclass(frozen=True)
class Tried:
    """The outcome of a trial, for the ledger and for the person who adds the model."""

    evidence: Evidence
    notes: tuple[str, ...] = ()
    engine: EngineChoice = CHOSEN_NATIVE
    reference: Profile | None = None
    """The profile of the training data that a person gave."""
    reference_source: str = ""


def try_out(artifact: Artifact, add_options: AddOptions, cache: Path) -> Tried:
    """Score rows as a worker does, twice, each row alone, and by the library itself; `cache` keeps machine code.

    The engine is chosen first, so that all of it is tried with the engine of the workers.
    Raises ModelError for what is certain: for a person's rows any error or difference; for invented rows a broken
    contract, a wrong type or shape, or predictions that differ.
    """
    model = registry.load(artifact)
    model_format = registry.format_named(artifact.format)
    if add_options.sample is None:
        tried = _on_invented(model_format, model, artifact, add_options, cache)
    else:
        sampled = add_options.sample.read(artifact.signature)
        tried = _on_sample(model_format, model, artifact, sampled, add_options, cache)
    golden_rows = golden.require_agreement(artifact, model)
    notes = (f"it agrees with its {golden_rows:,} golden rows, which each worker scores when it loads it",)
    tried = replace(tried, notes=(*tried.notes, *(notes if golden_rows else ())))
    if add_options.reference is None:
        return tried
    profile, source = reference.profile_of(model, artifact.signature, add_options.reference)
    return replace(tried, reference=profile, reference_source=source)


def _on_sample(
    model_format: registry.Format,
    model: Model,
    artifact: Artifact,
    sampled: Sampled,
    add_options: AddOptions,
    cache: Path,
) -> Tried:
    rows = bind(artifact.signature, sampled.rows.schema).apply(sampled.rows)
    predicted = _scored(model, rows, sampled)
    engine = engine_choice.choose(model, rows, predicted, add_options.engine, cache)
    if engine.engine != NATIVE:
        predicted = _scored(model, rows, sampled)
    trial = _Trial(model, rows, predicted, sampled, add_options)
    unsteady = trial.unsteadiness()
    own = OwnRows.of(artifact.signature, sampled)
    largest = None if unsteady else trial.difference_from_library(model_format, artifact, own, must_score=True)
    evidence = Evidence(rows.num_rows, sampled.source, largest, unsteady=unsteady)
    shown = ", ".join(sampled.unused[:8]) + ", ..." * (len(sampled.unused) > 8)
    notes = (f"{sampled.source} has columns that the model does not use: {shown}",) if sampled.unused else ()
    return Tried(evidence, (*notes, *_warnings(unsteady)), engine)


def _on_invented(
    model_format: registry.Format, model: Model, artifact: Artifact, add_options: AddOptions, cache: Path
) -> Tried:
    known = model_format.known_values(model, artifact.signature)
    first: Exception | None = None
    for rows in inventions(artifact.signature, INVENTED_ROWS, known):
        try:
            predicted = MicroBatches(model).predict(rows)
        except Exception as error:  # noqa: BLE001 -- the model's own code may raise anything
            _require_uncertain(error, artifact)
            first = first or error
            continue
        engine = engine_choice.choose(model, rows, predicted, add_options.engine, cache)
        if engine.engine != NATIVE:
            predicted = MicroBatches(model).predict(rows)
        sampled = Sampled(INVENTED, rows, partial(frame_of, rows), is_from_person=False)
        trial = _Trial(model, rows, predicted, sampled, add_options)
        unsteady = trial.unsteadiness()
        own = OwnRows.of(artifact.signature, sampled)
        largest = None if unsteady else trial.difference_from_library(model_format, artifact, own, must_score=False)
        unsure = _ALIKE if len({str(row) for row in rows.to_pylist()}) == 1 else ""
        evidence = Evidence(rows.num_rows, difference=largest, unsteady=unsteady, unsure=unsure)
        return Tried(evidence, _warnings(unsteady), engine)
    error_text = refusals.error_summary(first) if first is not None else ""
    wanted = ", ".join(map(str, artifact.signature.inputs[:8]))
    note = (
        f"{INVENTED_ROWS} invented rows of {wanted} raised {error_text}. That may be the rows' fault, for the "
        "model may take only values like those of its training: no row was scored"
    )
    return Tried(Evidence(INVENTED_ROWS, error=error_text), (note,))


def _warnings(unsteady: str) -> tuple[str, ...]:
    if not unsteady:
        return ()
    return (f"accepted by --allow-unsteady: {unsteady}. A batch that is tried again may get other predictions",)


def _require_uncertain(error: Exception, artifact: Artifact) -> None:
    """Raises ModelError if no other rows would help."""
    if isinstance(error, ScorebeatError) and not isinstance(error, ModelError):
        raise error
    if not isinstance(error, _CERTAIN) and not _SHAPES.search(text(error)):
        return
    if isinstance(error, ScorebeatError):
        raise error
    types_wanted = ""
    undeclared = [i.name for i in artifact.signature.inputs if i.trained.exact]
    if undeclared:  # the model's own code may need other types
        hints = {".dt accessor": "datetime64[us]", ".str accessor": "string"}
        kinds = [kind for word, kind in hints.items() if word in text(error)] or ["string", "datetime64[us]", "int64"]
        types_wanted = (
            f"Its file does not say what {', '.join(undeclared[:8])} had in training, and float64 was taken: if that "
            f"is wrong, declare the type, such as {' or '.join(f'--inputs {undeclared[0]}:{kind}' for kind in kinds)}. "
        )
    wanted = ", ".join(map(str, artifact.signature.inputs[:8]))
    raise ModelError(
        f"it raised {refusals.error_summary(error)} on {INVENTED_ROWS} invented rows of {wanted}. {types_wanted}"
        "If rows of yours would do, give some with --sample FILE or --sample-job JOB"
    ) from error


def _scored(model: Model, rows: pa.RecordBatch, sampled: Sampled) -> pa.RecordBatch:
    try:
        return MicroBatches(model).predict(rows)
    except OutputError:
        raise
    except Exception as error:
        index, own = find_failing_row(model, rows, error)
        where = (
            f"the {rows.num_rows:,} rows of {sampled.source} together" if index is None else _named(sampled, [index])
        )
        raise ModelError(
            f"on {where} it raised {refusals.error_summary(own)}. If such rows are to be quarantined, leave them out "
            "of the sample"
        ) from error


def _named(sampled: Sampled, indices: Sequence[int]) -> str:
    shown = ", ".join(sampled.name(index) for index in indices[:_SHOWN]) + ", ..." * (len(indices) > _SHOWN)
    return f"{shown} of {'the invented rows' if sampled.source == INVENTED else sampled.source}"


@dataclass(frozen=True)
class _Trial:
    """Rows that a model scored, and its predictions."""

    model: Model
    rows: pa.RecordBatch
    predicted: pa.RecordBatch
    sampled: Sampled
    add_options: AddOptions

    def unsteadiness(self) -> str:
        """How predictions depend on time or on other rows; empty if they do not.

        Raises ModelError if they do and that is not accepted.
        """
        found = dependence(self.model, self.rows, self.predicted, partial(_named, self.sampled))
        if found and not self.add_options.unsteady:
            raise ModelError(
                f"{found}. A batch may be scored again, and in other pieces, so such predictions mean nothing: take "
                "dropout, random draws, batch normalisation in training mode, kept state and values computed from the "
                "other rows, such as fillna(rows.mean()), out of the model (in PyTorch call model.eval() before it is "
                "exported), or accept it with --allow-unsteady"
            )
        return found

    def difference_from_library(
        self, model_format: registry.Format, artifact: Artifact, own: OwnRows, *, must_score: bool
    ) -> float | None:
        """The largest difference from the library's own predictions; None if there is no library, or if it
        scores none of the rows and need not.

        Raises ModelError naming rows for which the two differ, or that the library does not score.
        """
        found, error = likeness.of_batch(self.predicted), None
        single = is_single(self.sampled.rows, self.rows, self.predicted)
        nearest: likeness.Difference | None = None
        for form in own.forms():
            try:
                returned = model_format.own_predict(artifact, form)
            except Exception as raised:  # noqa: BLE001 -- any library, on rows of any form
                error = error or raised
                continue
            if returned is None:
                return None
            expected = likeness.of_arrays(returned)
            compared = likeness.difference(found, expected, is_single=single)
            if nearest is not None:  # a row differs if it does in each form
                compared = likeness.Difference(nearest.rows & compared.rows, max(nearest.largest, compared.largest))
            nearest = compared
            if not nearest.rows.any():
                return nearest.largest
        if nearest is not None:
            raise ModelError(self._difference_message(nearest.positions, found, expected, single=single))
        if must_score and error is not None:
            raise ModelError(
                f"its own library does not score {self.sampled.source}, which here is scored: it raised "
                f"{refusals.error_summary(error)}"
            ) from error
        return None

    def _difference_message(
        self, differing: Sequence[int], found: list[Values], expected: list[Values], *, single: bool
    ) -> str:
        row, column = differing[0], 0
        for index, (one, other) in enumerate(zip(found, expected, strict=False)):
            if likeness.difference([one[row : row + 1]], [other[row : row + 1]], is_single=single).positions:
                column = index
                break
        return (
            f"{len(differing):,} of {self.rows.num_rows:,} rows would be scored otherwise than by its own "
            f"library, such as {_named(self.sampled, [row])}: {found[column][row]!s} here, "
            f"{expected[column][row]!s} there. Do --inputs, --outputs and --classes have the order of training? If its "
            "own code distinguishes whole numbers, truth values or dates from others, --inputs names their types, such "
            "as region:int64,active:bool"
        )

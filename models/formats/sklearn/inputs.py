"""The input that a fitted scikit-learn model takes: a matrix of numbers, a DataFrame, an array of objects, or texts."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import ScorebeatError, StoreError
from scorebeat.models.arrow_types import is_number, is_text, type_name
from scorebeat.models.contract import Input, Signature, Trained
from scorebeat.models.formats.registry import missing_module_error
from scorebeat.models.formats.sklearn.columns import (
    Column,
    begins_with_own_code,
    known_columns,
    picks_by_name,
    reads_numbers,
    reads_text,
    runs_own_code,
    training_names,
    used,
)
from scorebeat.models.formats.sklearn.training_values import known_values
from scorebeat.models.inputs.matrix import matrix
from scorebeat.models.inputs.options import Matched, match_names, named_inputs
from scorebeat.models.inputs.samples import sample
from scorebeat.models.scoring.apart import changed_by_null

MATRIX, FRAME, OBJECTS, TEXTS = "matrix", "frame", "objects", "texts"
Feed = Callable[[pa.RecordBatch], Any]
_Found = TypeVar("_Found")
_TEXT = "text"
"""The default name of the input of a model that reads texts."""
_DAYS = tuple(np.datetime64(day, "us") for day in ("1999-12-31T23:59:59.5", "2016-02-29T12", "2031-07-01"))
_UNITS = ("us", "ns", "ms", "s")
"""Units of timestamps: that of pandas 3, that of older versions, and those that pandas reads from files."""


@dataclass(frozen=True)
class InputPlan:
    """The inputs of a model, and the kind of object that its predict() takes."""

    kind: str
    inputs: tuple[Input, ...]
    trial: pa.RecordBatch
    """One invented row, with values that the model knows."""
    declared_text: tuple[str, ...] = ()
    """Inputs that are text only by --inputs, and not by the model."""
    notes: tuple[str, ...] = ()
    """Notes on how the inputs were bound, for the person who adds the model."""
    unsure: str = ""
    """Why predictions may differ from those in training, as far as the file shows; empty if there is no reason."""

    @property
    def row_of_words(self) -> pa.RecordBatch:
        """One invented row with a word in each of `declared_text`."""
        known = {name: self.trial[name][0].as_py() for name in self.trial.schema.names}
        return _trial(self.inputs, known | dict.fromkeys(self.declared_text, "word"))


def plan_inputs(model: Any, declared: Sequence[str], file: str) -> InputPlan:
    """The inputs of the model, from its file and from the names, or names and types, of --inputs.

    Raises StoreError if the two do not fit, if neither has the names, or if predictions depend on the unit of
    timestamps and neither has the unit of training.
    """
    if _read(lambda: reads_text(model), otherwise=False):
        inputs = named_inputs(declared or (_TEXT,), pa.string())
        if len(inputs) != 1 or not is_text(inputs[0].type) or inputs[0].length:
            raise StoreError(f"{file} reads one text a row: name it with --inputs review, not {', '.join(declared)}")
        return InputPlan(TEXTS, inputs, _trial(inputs, {}))
    names: list[str] = _read(lambda: training_names(model), [])
    known = _known(model, names or [str(at) for at in range(_count(model))])
    matched = (
        _named_inputs(model, names, known, declared, file) if names else _unnamed_inputs(model, known, declared, file)
    )
    inputs = matched.inputs
    # `known` has the names of training, or else positions
    own_names = [i.trained_name if names else str(at) for at, i in enumerate(inputs)]
    columns = {i.name: known[own] for i, own in zip(inputs, own_names, strict=True) if own in known}
    _check_types(inputs, columns, file)
    examples = {name: column.example for name, column in columns.items()}
    kind = _kind(model, bool(names), inputs, _trial(inputs, examples, model))
    if kind != MATRIX and any(i.length for i in inputs):
        raise StoreError(f"{file} takes columns, not arrays: name each column with --inputs a,b,c")
    if kind == FRAME:
        inputs = _with_units(model, inputs, examples, file)
    undeclared = _undeclared(model, kind, inputs, examples, declared)
    unsure = _unsure(model, kind, inputs, examples, undeclared) or _unsure_of_nulls(model, kind, inputs, examples)
    inputs = tuple(replace(i, trained=replace(i.trained, exact=True)) if i.name in undeclared else i for i in inputs)
    declared_text = tuple(i.name for i in inputs if is_text(i.type) and i.name not in columns)
    return InputPlan(kind, inputs, _trial(inputs, examples, model), declared_text, matched.notes, unsure)


def make_feed(kind: str, model: Any, inputs: Sequence[Input]) -> Feed:
    """A function that converts rows for the model's predict(). Raises ModelError if pandas is needed and absent."""
    if kind == TEXTS:
        return _texts
    if kind == MATRIX:
        return lambda rows: matrix(rows, np.float64, "F")
    try:
        from scorebeat.models.formats.shared.frame import frame  # noqa: PLC0415 -- pandas may not be installed
    except ModuleNotFoundError as error:
        raise missing_module_error(error, "a model that was fitted on a DataFrame") from error
    wanted = _with_stored_nulls(model, inputs)
    if kind == FRAME:
        return lambda rows: frame(rows, wanted)
    return lambda rows: frame(rows, wanted).to_numpy(dtype=object)


def _texts(rows: pa.RecordBatch) -> Any:
    """The texts of the only column. NULL is NaN, as in a Series of texts; a vectorizer refuses it by itself."""
    texts = rows.column(0).to_numpy(zero_copy_only=False)
    if rows.column(0).null_count:
        texts = texts.copy()
        texts[rows.column(0).is_null().to_numpy(zero_copy_only=False)] = np.nan
    return texts


def _with_stored_nulls(model: Any, inputs: Sequence[Input]) -> Sequence[Input]:
    """The inputs. If a version was stored without its training columns, the model shows what NULL was in training."""
    if any(i.trained != Trained() for i in inputs):
        return inputs
    own_names: list[str] = _read(lambda: training_names(model), [])
    names = own_names or [str(at) for at in range(_count(model))]
    known = _known(model, names)
    own = own_names or [i.name for i in inputs]
    columns = {input_name: known[name] for name, input_name in zip(names, own, strict=False) if name in known}
    alike = {i.name for i in inputs if i.name in columns and is_text(columns[i.name].type) == is_text(i.type)}
    return [replace(i, trained=Trained(null=columns[i.name].trained.null if i.name in alike else "")) for i in inputs]


def _known(model: Any, names: Sequence[str]) -> dict[str, Column]:
    return _read(lambda: known_columns(model, names), {})


def _read(inspect: Callable[[], _Found], otherwise: _Found) -> _Found:
    """What `inspect` finds in the model; `otherwise` if it fails. The trial of the model then decides."""
    try:
        return inspect()
    except ScorebeatError:
        raise
    except Exception:  # noqa: BLE001 -- attributes of any estimator may be anything
        return otherwise


def _count(model: Any) -> int:
    return int(getattr(model, "n_features_in_", 0) or 0)


def _named_inputs(
    model: Any, names: Sequence[str], known: dict[str, Column], declared: Sequence[str], file: str
) -> Matched:
    """Columns under the names of training, without those that the model drops first."""
    wanted = _read(lambda: used(model, names), [*names])
    own = [_input(name, known.get(name)) for name in wanted]
    if len(wanted) < len(names) and len(declared) == len(names):  # all columns of training, dropped ones included
        every = match_names(declared, [_input(name, known.get(name)) for name in names], file)
        return Matched(tuple(i for i in every.inputs if i.trained_name in wanted), every.notes)
    return match_names(declared, own, file)


def _input(name: str, column: Column | None) -> Input:
    return Input(name, pa.float64()) if column is None else Input(name, column.type, None, column.trained)


def _unnamed_inputs(model: Any, known: dict[str, Column], declared: Sequence[str], file: str) -> Matched:
    """As many values as the model has features, under the names of --inputs, else as an array."""
    typed = named_inputs(declared, pa.null())
    found = sum(i.length or 1 for i in typed)
    count = _count(model) or found
    if not count:
        raise StoreError(f"{file} does not say how many inputs it wants: name them with --inputs a,b,c")
    if typed and found != count:
        raise StoreError(f"{file} wants {count} inputs, but --inputs names {found}: {', '.join(declared)}")
    if not typed and (
        _read(lambda: picks_by_name(model), otherwise=False) or any(is_text(column.type) for column in known.values())
    ):
        raise StoreError(
            f"{file} picks columns by name, or has text among its {count} columns, but does not know their names: "
            "give them with their types, --inputs age:float64,city:string"
        )
    if not typed:
        return Matched((Input("features", pa.float64(), count),))
    inputs = []
    for index, wanted in enumerate(typed):
        own = _input(wanted.name, known.get(str(index)) if found == len(typed) else None)
        kind = own.type if pa.types.is_null(wanted.type) else wanted.type
        trained = replace(own.trained, dtype=wanted.trained.dtype or own.trained.dtype)
        inputs.append(Input(wanted.name, kind, wanted.length, trained))
    return Matched(tuple(inputs))


def _check_types(inputs: Sequence[Input], columns: dict[str, Column], file: str) -> None:
    """Raises StoreError if --inputs has text for a column of numbers, or numbers for a column of text."""
    for wanted in inputs:
        column = columns.get(wanted.name)
        if column is None or not column.is_sure or is_text(column.type) == is_text(wanted.type):
            continue
        if is_text(column.type):
            raise StoreError(
                f"{file}: --inputs says that {wanted.name} is {type_name(wanted.type)}, but it was fitted on texts "
                f"there, such as {column.example!r}: leave the type out, and cast the column in the query"
            )
        raise StoreError(
            f"{file}: --inputs says that {wanted.name} is text, but it was fitted on {type_name(column.type)} there, "
            f"such as {column.example!r}: leave the type out, and give the column in the query as it is"
        )


def _kind(model: Any, is_named: bool, inputs: Sequence[Input], trial: pa.RecordBatch) -> str:
    """The kind of object that the model was fitted on; if it does not show that, a kind that scores an invented row."""
    is_plain = all(is_number(i.type) and not i.trained.dtype for i in inputs)
    reads_matrix = _read(lambda: reads_numbers(model), otherwise=False)
    if any(i.length for i in inputs) or (is_plain and reads_matrix):
        return MATRIX if not is_named or reads_matrix else FRAME
    if is_named:
        return FRAME
    own = _read(lambda: begins_with_own_code(model) or picks_by_name(model), otherwise=True)
    kinds = ((FRAME, MATRIX) if own else (MATRIX, FRAME)) if is_plain else (FRAME, OBJECTS)
    return next((kind for kind in kinds if isinstance(_score(model, kind, inputs, trial), np.ndarray)), kinds[0])


def _score(model: Any, kind: str, inputs: Sequence[Input], rows: pa.RecordBatch) -> Any:
    """The model's predictions for rows, probabilities if it has them; or the error that it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = make_feed(kind, model, inputs)(rows)
            return np.asarray((model.predict_proba if hasattr(model, "predict_proba") else model.predict)(x))
    except ScorebeatError:
        raise
    except Exception as error:  # noqa: BLE001 -- the model's own code
        return error


def _same(one: Any, other: Any) -> bool:
    """Whether two outcomes of `_score` are the same; two errors always are."""
    if isinstance(one, Exception) or isinstance(other, Exception):
        return isinstance(one, Exception) and isinstance(other, Exception)
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f" and other.dtype.kind == "f"))


def _with_units(model: Any, inputs: tuple[Input, ...], examples: dict[str, Any], file: str) -> tuple[Input, ...]:
    """The inputs, with the unit of each timestamp. Raises StoreError if predictions depend on it and it is unknown."""
    times = [i.name for i in inputs if pa.types.is_timestamp(i.type) and not i.trained.dtype]
    if not times:
        return inputs
    rows = pa.concat_batches([_trial(inputs, examples | dict.fromkeys(times, day)) for day in _DAYS])
    typed: dict[str, tuple[Input, ...]] = {}
    for unit in _UNITS:
        dtypes = {i.name: f"datetime64[{unit}{', UTC' * bool(i.type.tz)}]" for i in inputs if i.name in times}
        typed[unit] = tuple(
            replace(i, trained=replace(i.trained, dtype=dtypes[i.name])) if i.name in dtypes else i for i in inputs
        )
    scores = {unit: _score(model, FRAME, typed[unit], rows) for unit in _UNITS}
    first = scores[_UNITS[0]]
    if all(_same(first, score) for score in scores.values()):
        return typed[_UNITS[0]]
    declared = ",".join(f"{name}:datetime64[ns]" for name in times)
    raise StoreError(
        f"{file} makes other predictions for timestamps of another unit, and does not say whether "
        f"{', '.join(times)} had datetime64[ns] or datetime64[us] in training. Look at the dtypes of the DataFrame "
        "that it was fitted on: pandas before 3 made datetime64[ns], pandas 3 makes datetime64[us]. Then declare it, "
        f"such as --inputs {declared}"
    )


def _undeclared(
    model: Any, kind: str, inputs: Sequence[Input], examples: dict[str, Any], declared: Sequence[str]
) -> list[str]:
    """Inputs that are float64 only by default, in a model whose own code may depend on their type."""
    if kind not in (FRAME, OBJECTS) or not _read(lambda: runs_own_code(model), otherwise=True):
        return []
    typed = {i.name for i in named_inputs(declared, pa.null()) if not pa.types.is_null(i.type)}
    return [i.name for i in inputs if pa.types.is_float64(i.type) and i.name not in {*typed, *examples}]


def _unsure(model: Any, kind: str, inputs: Sequence[Input], examples: dict[str, Any], undeclared: Sequence[str]) -> str:
    """A warning if the model's own code distinguishes whole numbers, and its file lacks the types; else empty."""
    if not undeclared:
        return ""
    whole = tuple(replace(i, type=pa.int64()) if i.name in undeclared else i for i in inputs)
    trial = _trial(whole, examples)
    as_floats = pa.RecordBatch.from_arrays(
        [
            column.cast(i.type) if i.name in undeclared else column
            for i, column in zip(inputs, trial.columns, strict=True)
        ],
        names=trial.schema.names,
    )
    if _same(_score(model, kind, inputs, as_floats), _score(model, kind, whole, trial)):
        return ""
    return (
        "the model's own code distinguishes whole numbers from others, and its file does not say which "
        f"{', '.join(undeclared)} had in training: float64 was taken. Declare the types of those that were integers or "
        f"truth values, such as --inputs {undeclared[0]}:int64 or {undeclared[0]}:bool, or of those that "
        f"were not, {undeclared[0]}:float64"
    )


def _unsure_of_nulls(model: Any, kind: str, inputs: Sequence[Input], examples: dict[str, Any]) -> str:
    """A warning if a NULL in a DataFrame would change the predictions of other rows; else empty.

    pandas then converts whole numbers to floats, and truth values to objects, in all rows. Here rows without NULL keep
    their types.
    """
    whole = changed_by_null(inputs)
    if kind not in (FRAME, OBJECTS) or not whole or not _read(lambda: runs_own_code(model), otherwise=True):
        return ""
    row = _trial(inputs, examples)
    lacking = [
        pa.nulls(1, f.type) if f.name in whole else column for f, column in zip(row.schema, row.columns, strict=True)
    ]
    below = pa.concat_batches([pa.RecordBatch.from_arrays(lacking, schema=row.schema), row])
    alone, beside = (_score(model, kind, inputs, rows) for rows in (row, below))
    if isinstance(alone, Exception) or isinstance(beside, Exception) or _same(alone, beside[1:]):
        return ""
    return (
        f"a NULL in {', '.join(whole)} changes what the model's own code sees in the rows around it, for pandas makes "
        "whole numbers floats and truth values objects then. Here rows without NULL are scored with the types that "
        "--inputs says: give rows with --sample FILE or --sample-job JOB to see whether that is right, or replace NULL "
        "in the job's query by COALESCE"
    )


def _trial(inputs: Sequence[Input], examples: dict[str, Any], model: Any = None) -> pa.RecordBatch:
    signature = Signature(tuple(inputs), pa.schema([]))
    row = sample(signature, 1, known_values(model, signature))
    columns = [
        _example(i, examples[i.name], column) if i.name in examples and i.length is None else column
        for i, column in zip(inputs, row.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=row.schema)


def _example(wanted: Input, value: Any, otherwise: pa.Array) -> pa.Array:
    """A column of that one value if the type holds it, else `otherwise`."""
    try:
        return (
            pa.array([value]).cast(wanted.type) if isinstance(value, np.datetime64) else pa.array([value], wanted.type)
        )
    except (pa.ArrowException, TypeError, ValueError):
        return otherwise

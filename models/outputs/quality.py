"""How well stored outputs fit what really happened: the metrics of scikit-learn, for classifiers and regressors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scorebeat.core.errors import SignatureError
from scorebeat.models.arrow_types import is_text
from scorebeat.models.outputs.column_names import LABEL

BINS = 10
_OF_A_CLASS = "class_"
CompareAs = Literal["text", "whole", "float"]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """The output of a model that the truth is compared with."""

    output: str
    is_class: bool
    """Whether it names a class; else it is a number."""
    type: pa.DataType
    probabilities: tuple[str, ...] = ()
    """Outputs beside a class: its probabilities, if they are named as classes are."""

    def compared_as(self, label: pa.DataType) -> CompareAs:
        """How a column `label` of this type is compared with the output. Raises SignatureError if it cannot be."""
        if self.is_class and is_text(self.type):
            if is_text(label):
                return "text"
            expected = "a text: write it as the model does, such as CASE WHEN churned THEN 'yes' ELSE 'no' END AS label"
        elif self.is_class:
            if _is_whole(label) and _is_whole(self.type):
                return "whole"
            if _is_whole(label) or pa.types.is_floating(label):
                return "float"
            expected = "a whole number or boolean, such as label::int AS label"
        else:
            if pa.types.is_floating(label) or pa.types.is_integer(label):
                return "float"
            expected = "a number, such as amount::float8 AS label"
        raise SignatureError(
            f"its column 'label' is {label}, which cannot be compared with the output {self.output!r}, "
            f"{self.type}; expected {expected}"
        )


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def target(outputs: pa.Schema) -> Target:
    """The output that the truth is compared with. Raises SignatureError if no single one is a label or a number."""
    classes = [field for field in outputs if is_text(field.type) or _is_whole(field.type)]
    numbers = [field for field in outputs if pa.types.is_floating(field.type)]
    named = [field for field in outputs if field.name == LABEL]
    if len(classes) + len(numbers) == len(outputs):
        if len(classes) == 1:
            return Target(classes[0].name, True, classes[0].type, tuple(field.name for field in numbers))
        if not classes and named and len(numbers) > 1:  # classes that are floats
            others = tuple(field.name for field in numbers if field.name != LABEL)
            return Target(LABEL, True, named[0].type, others)
        if not classes and len(numbers) == 1:
            return Target(numbers[0].name, False, numbers[0].type)
    raise SignatureError(
        f"the outputs {', '.join(outputs.names[:8])} are neither one label, with or without probabilities, nor one "
        "number: nothing to compare with one truth"
    )


def measure(of: Target, compared_as: CompareAs, rows: pa.Table) -> dict[str, Any]:
    """The metrics of the rows, JSON values only; what cannot be computed is None, and `notes` says why.

    `rows` has the columns `truth` and `output`, both as `compared_as`, and `p0`, `p1` ... with the probabilities.
    """
    known = [
        pc.fill_null(pc.is_finite(column), False) if pa.types.is_floating(column.type) else pc.is_valid(column)
        for column in rows.columns[:2]  # the truth and the output
    ]
    kept = rows.filter(pc.and_(*known))
    shared: dict[str, Any] = {"compared": kept.num_rows, "left_out": rows.num_rows - kept.num_rows}
    if not kept.num_rows:
        return shared | {"notes": ["no row has both a label and a prediction that are numbers or texts"]}
    return shared | (_of_classes(of, compared_as, kept) if of.is_class else _of_numbers(kept))


def _of_numbers(rows: pa.Table) -> dict[str, Any]:
    from sklearn import metrics  # noqa: PLC0415 -- takes a second, and only what computes needs it

    truth, output = (rows.column(name).to_numpy() for name in ("truth", "output"))
    with np.errstate(over="ignore", invalid="ignore"):  # of differences such as 1e308, which get a note
        found = {
            "rmse": _finite(metrics.root_mean_squared_error(truth, output)),
            "mae": _finite(metrics.mean_absolute_error(truth, output)),
            "r2": _finite(metrics.r2_score(truth, output)) if rows.num_rows > 1 else None,
        }
    notes = [] if rows.num_rows > 1 else ["r2 needs two rows"]
    lost = [name for name, value in found.items() if value is None and (name != "r2" or rows.num_rows > 1)]
    if lost:
        notes.append(f"no {', '.join(lost)}: the differences are too large for a float")
    return {"kind": "regressor", **found, "notes": notes}


def _of_classes(of: Target, compared_as: CompareAs, rows: pa.Table) -> dict[str, Any]:
    from sklearn import metrics  # noqa: PLC0415 -- as above

    # one coding for both columns: scikit-learn would sort and compare a hundred thousand texts several times
    known = pa.chunked_array([*rows.column("truth").chunks, *rows.column("output").chunks]).unique()
    truth, output = (pc.index_in(rows.column(name), known).to_numpy() for name in ("truth", "output"))
    notes: list[str] = []
    found = {"kind": "classifier", "accuracy": _finite(metrics.accuracy_score(truth, output))}
    found |= {"roc_auc": None, "log_loss": None, "calibration": None}
    if of.probabilities:
        found |= _of_probabilities(of, compared_as, rows, notes)
    return found | {"notes": notes}


def _of_probabilities(of: Target, compared_as: CompareAs, rows: pa.Table, notes: list[str]) -> dict[str, Any]:
    from sklearn import metrics  # noqa: PLC0415 -- as above

    classes = _classes(of, compared_as)
    predicted = rows.column("output").unique().to_pylist()
    if classes is None or len(classes) < 2 or not set(predicted) <= set(classes):
        notes.append("the outputs beside the label have no classes' names, so they are not read as probabilities")
        return {}
    chances = np.column_stack([rows.column(f"p{at}").to_numpy().astype(np.float64) for at in range(len(classes))])
    truth = pc.index_in(rows.column("truth"), pa.array(classes, rows.column("truth").type))
    has_class = truth.is_valid().to_numpy()
    has_chances = np.isfinite(chances).all(axis=1)
    for what, count in (
        ("rows have a label that the model does not know", np.count_nonzero(~has_class)),
        ("rows have no probabilities", np.count_nonzero(has_class & ~has_chances)),
    ):
        if count:
            notes.append(f"{count:,} {what}; they count in the accuracy alone")
    use = has_class & has_chances
    if not use.any():
        return {}
    chances, codes = chances[use], truth.to_numpy()[use].astype(np.int64)
    if not np.allclose(chances.sum(axis=1), 1, atol=1e-3) or chances.min() < 0:
        notes.append("the outputs beside the label do not sum to 1, so they are not read as probabilities")
        return {}
    return {
        "roc_auc": _roc_auc(codes, chances, classes, notes),
        "log_loss": _finite(metrics.log_loss(codes, chances, labels=range(len(classes)))),
        "calibration": _calibration(codes, chances, classes),
    }


def _roc_auc(codes: NDArray[np.int64], chances: Numbers, classes: Sequence[Any], notes: list[str]) -> float | None:
    """Of two classes that of the second; of more the mean of each class against the rest."""
    from sklearn import metrics  # noqa: PLC0415 -- as above

    wanted = [1] if len(classes) == 2 else [*range(len(classes))]
    there = [at for at in wanted if 0 < np.count_nonzero(codes == at) < len(codes)]
    absent = [str(classes[at]) for at in wanted if at not in there]
    if absent and len(classes) > 2 and there:
        notes.append(f"roc_auc without {', '.join(absent[:8])}: no row, or each, has that label")
    if not there:
        notes.append("roc_auc needs rows of at least two labels")
        return None
    return _finite(np.mean([metrics.roc_auc_score(codes == at, chances[:, at]) for at in there]))


def _calibration(codes: NDArray[np.int64], chances: Numbers, classes: Sequence[Any]) -> dict[str, Any]:
    """Of two classes: how often the second happened, by its probability; of more: how often the most probable did."""
    from sklearn.calibration import calibration_curve  # noqa: PLC0415 -- as above

    if len(classes) == 2:
        of, happened, chance = str(classes[1]), codes == 1, chances[:, 1]
    else:
        best = chances.argmax(axis=1)
        of, happened, chance = "the most probable class", codes == best, chances.max(axis=1)
    chance = np.clip(chance, 0, 1)
    edges = np.linspace(0, 1, BINS + 1)
    rows = np.bincount(np.searchsorted(edges[1:-1], chance), minlength=BINS)  # as calibration_curve, which hides counts
    shares, means = (iter(found.tolist()) for found in calibration_curve(happened.astype(int), chance, n_bins=BINS))
    return {
        "of": of,
        "bins": [
            {
                "above": round(at / BINS, 10),
                "rows": count,
                "predicted": next(means) if count else None,
                "happened": next(shares) if count else None,
            }
            for at, count in enumerate(rows.tolist())
        ],
    }


def _classes(of: Target, compared_as: CompareAs) -> list[Any] | None:
    """The class of each column of probabilities, by its name; None if a name is no class's."""
    if compared_as == "text":
        return [*of.probabilities]
    found: list[Any] = []
    for name in of.probabilities:
        written = name.removeprefix(_OF_A_CLASS)
        try:
            number = {"false": 0.0, "true": 1.0}[written] if written in ("false", "true") else float(written)
        except ValueError:
            return None
        if written == name or not np.isfinite(number) or (compared_as == "whole" and not number.is_integer()):
            return None
        found.append(int(number) if compared_as == "whole" else number)
    return found


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None

"""Makes the compiled engine of a loaded model, if it would be exactly the model, and proves it on a few rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from scorebeat.core.errors import one_line
from scorebeat.models.contract import Input, Signature
from scorebeat.models.engines import EngineUnavailable
from scorebeat.models.formats.sklearn.compiled.plan import CompiledPlan, make_plan
from scorebeat.models.formats.sklearn.compiled.unfit import Unfit
from scorebeat.models.formats.sklearn.inputs import Feed
from scorebeat.models.formats.sklearn.training_values import known_values
from scorebeat.models.inputs.samples import sample

Call = Callable[[str, pa.RecordBatch], Any]
"""Calls a method of a model for rows, and returns what the model returns."""
_METHODS = ("predict", "predict_proba", "decision_function")
_PROVED = 16
"""Rows that both engines score when the model is loaded."""
_ODD = (
    "",
    "...",
    "Straße ΩMEGA ŒUVRE",
    "a1_b2 c-d e'f 3.14",
    "漢字 かな 한글",
    "İSTANBUL ΟΔΟΣ",
    "x\u00a0y\u2028z 🎈",
    "\t\n",
)
_CLOSE = 1e-9


class Loaded(Protocol):
    """What is read of a loaded model."""

    model: Any
    feed: Feed
    fed_as: str
    inputs: tuple[Input, ...]

    def native(self, method: str, rows: pa.RecordBatch) -> Any:
        """What a method of the model itself returns."""
        ...


def compiled_call(loaded: Loaded, cache: Path) -> Call:
    """The methods of the model, computed by the compiled pass. Raises EngineUnavailable with the reason."""
    try:
        plan = make_plan(loaded.model, loaded.fed_as, loaded.inputs)
    except Unfit as error:
        raise EngineUnavailable(str(error)) from error
    except Exception as error:  # attributes of any estimator may be anything
        raise EngineUnavailable(f"its parts cannot be read: {one_line(error)}") from error
    try:
        from scorebeat.models.formats.sklearn.compiled.engine import CompiledTexts  # noqa: PLC0415 -- imports numba

        made = CompiledTexts(plan, loaded.feed, loaded.native, cache)
    except ModuleNotFoundError as error:
        raise EngineUnavailable(
            f"the package {error.name} is not installed here: pip install 'scorebeat[text]'"
        ) from error
    except Exception as error:  # numba or LLVM may fail in any way on a processor that they do not know
        raise EngineUnavailable(f"it cannot be compiled here: {one_line(error)}") from error
    _prove(loaded, made, _probe(loaded, plan))
    return made


def _prove(loaded: Loaded, made: Call, rows: pa.RecordBatch) -> None:
    """Raises EngineUnavailable if both engines do not return the same for the rows."""
    for method in _METHODS:
        if not hasattr(loaded.model, method):
            continue
        try:
            expected = np.asarray(loaded.native(method, rows))
        except Exception:  # noqa: BLE001 -- the rows are invented: other columns may not take their values
            return
        try:
            found = np.asarray(made(method, rows))
        except Exception as error:
            raise EngineUnavailable(f"its {method} fails: {one_line(error)}") from error
        if found.dtype.kind == "f":
            same = np.allclose(found, expected, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
        else:
            same = np.array_equal(found, expected)
        if not same:
            raise EngineUnavailable(f"its {method} differs from scikit-learn's for {rows.num_rows} invented texts")


def _probe(loaded: Loaded, plan: CompiledPlan) -> pa.RecordBatch:
    """Invented rows: texts of the model's own words, and odd ones."""
    signature = Signature(loaded.inputs, pa.schema([]))
    rows = sample(signature, _PROVED, known_values(loaded.model, signature))
    draw = np.random.default_rng(0)
    columns = list(rows.columns)
    for block in plan.texts:
        words = [*block.vocabulary.some_words(200), *block.examples]
        texts = [*_ODD]
        while len(texts) < _PROVED:
            text = " ".join(draw.choice(words or ["word", "Other", "WORDS"], 30))
            # a vocabulary may have surrogates alone, which no column holds
            texts.append(text.encode("utf-8", "ignore").decode())
        at = rows.schema.get_field_index(block.column)
        columns[at] = pa.array(texts, columns[at].type)
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)

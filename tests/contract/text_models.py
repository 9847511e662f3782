"""Fitted models of texts, and their two engines side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.engines import COMPILED
from scorebeat.models.formats.sklearn.models import SklearnModel, describe, ready

METHODS = ("predict", "predict_proba", "decision_function")
CORPUS = [
    "The card was charged twice, and nobody at the bank answers the phone.",
    "charged AGAIN and again: twice the fee, twice the phone calls",
    "Thank you, the mortgage was paid back and everybody was friendly!",
    "friendly people at the bank; the card came in a day",
    "Größe und Straße, ΑΒΓ αβγ, naïve café, Ünï_cödé 42 x1 a",
    "漢字 かな 한글 the bank phone",
    "nobody answers nobody answers the the the phone",
    "a b c d e, it's 3.14 of 10_000",
]
LABELS = np.array(["bad", "bad", "good", "good", "odd", "odd", "bad", "odd"])


class Engines:
    """A fitted model, scored by both of its engines."""

    def __init__(self, model: Any, cache: Path, inputs: Sequence[str] = ("review:string",)) -> None:
        """Raises EngineUnavailable if there is only one."""
        described = describe(model, AddOptions(tuple(inputs)), "m")
        artifact = Artifact("m", 1, "", cache, "pickle", "m", ("cpu",), described.signature, described.options)
        loaded = ready(model, artifact)
        assert isinstance(loaded, SklearnModel)
        self.loaded = loaded
        self.loaded.use_engine(COMPILED, cache)

    def differences(self, rows: pa.RecordBatch | Sequence[str]) -> list[str]:
        """Methods whose result is another one than scikit-learn's; floats may differ by 1e-12."""
        if not isinstance(rows, pa.RecordBatch):
            rows = pa.RecordBatch.from_arrays([pa.array(rows, pa.string())], names=["review"])
        found = []
        for method in METHODS:
            if hasattr(self.loaded.model, method):
                own, compiled = (np.asarray(call(method, rows)) for call in (self.loaded.native, self.loaded.call))
                if not _equal(own, compiled):
                    found.append(f"{method}: {own!r} and {compiled!r}")
        return found

    def by_scikit_learn(self, rows: Sequence[str]) -> int:
        """How many of these texts the compiled engine leaves to scikit-learn."""
        left: list[int] = []
        engine: Any = self.loaded._compiled
        native, batch = engine._native, pa.RecordBatch.from_arrays([pa.array(rows, pa.string())], names=["review"])

        def counted(method: str, some: pa.RecordBatch) -> Any:
            left.append(some.num_rows)
            return native(method, some)

        engine._native = counted
        try:
            engine("predict", batch)
        finally:
            engine._native = native
        return sum(left)


def _equal(one: Any, other: Any) -> bool:
    if one.dtype.kind != "f":
        return bool(one.dtype == other.dtype and np.array_equal(one, other))
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-12, atol=1e-12))


def every_token_counts(vectorizer: Any, cache: Path) -> Engines:
    """A regression over hashed words with weights at random, which shows any other token as another value."""
    model = make_pipeline(vectorizer, Ridge()).fit(CORPUS, np.arange(len(CORPUS), dtype=float))
    draw = np.random.default_rng(7)
    model[-1].coef_ = draw.normal(size=model[-1].coef_.shape)
    return Engines(model, cache)


def beside_numbers() -> pd.DataFrame:
    """Rows with two columns of texts, numbers and a category."""
    return pd.DataFrame(
        {
            "age": [31.0, 44.5, 64.0, 22.0, 18.0, 55.0, 71.0, 39.0],
            "review": CORPUS,
            "city": ["Ghent", "Oslo", "Lyon", "Ghent", "Oslo", "Lyon", "Ghent", "Oslo"],
            "title": [text.split(" ")[0] for text in CORPUS],
        }
    )

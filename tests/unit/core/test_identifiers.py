"""Names of models and versions: one rule, whoever reads them."""

from pathlib import Path

import pytest

from scorebeat.core.errors import StoreError, UsageError
from scorebeat.core.identifiers import LONGEST_MODEL_NAME, parse_model, version_of
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_file
from scorebeat.models.store import store
from scorebeat.producer.requests.run_request import version_number

WRONG = ("iris/0", "iris/04", "a/b/4", "/4", "iris/", "iris/4.0", "iris/+4", "iris/1234567890", "iris/\u0664")
TOO_LONG = "m" * (LONGEST_MODEL_NAME + 1)


def job(model: str) -> Job:
    return Job(name="flowers", query="SELECT id FROM items", key=("id",), model=model)


@pytest.mark.parametrize("text", WRONG)
def test_a_version_that_is_none_is_one_to_nobody(text: str) -> None:
    with pytest.raises(UsageError):
        parse_model(text)
    with pytest.raises(UsageError):
        version_of(text)
    with pytest.raises(UsageError):
        version_number(text, job("iris"))
    with pytest.raises(ValueError, match="cannot name a model"):
        job(text)


def test_a_name_with_and_without_a_version_is_read_alike_by_all() -> None:
    assert (parse_model("iris"), parse_model("iris/4"), version_of("iris/4")) == (
        ("iris", None),
        ("iris", 4),
        ("iris", 4),
    )
    assert (job("iris/4").model_name, job("iris/4").pinned_version, job("iris").pinned_version) == ("iris", 4, None)
    assert (version_number("iris/4", job("iris")), version_number("4", job("iris"))) == (4, 4)
    with pytest.raises(UsageError, match="expected one such as iris/4"):
        version_of("iris")


def test_a_jobs_file_names_no_model_that_the_store_would_refuse(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(f'[jobs.flowers]\nquery = "SELECT id FROM items"\nkey = "id"\nmodel = "{TOO_LONG}"\n', "utf-8")

    with pytest.raises(StoreError, match="at most 40 characters"):
        store.require_name(TOO_LONG)
    with pytest.raises(UsageError, match="at most 40 characters"):
        read_file(file)


def test_a_stored_job_with_a_longer_name_is_still_read() -> None:
    assert job(TOO_LONG).model_name == TOO_LONG

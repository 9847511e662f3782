"""The keys of a job: each wrong value is refused with the expected one, and its page agrees."""

import re
from pathlib import Path

import pytest

from scorebeat.core.errors import JobsFileError
from scorebeat.core.jobs.job_block import KEYS
from scorebeat.core.jobs.jobs_file import read_file
from scorebeat.core.jobs.parameters import OF_EVERY_RUN

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "jobs-toml.md").read_text(encoding="utf-8")
DOCUMENTED = re.findall(r"^\| `([^`|]*)`.* \| `jobs\.iris\.(\w+): (.*)` \|$", PAGE, re.MULTILINE)
GOOD = '[jobs.iris]\nquery = "SELECT id, x FROM items"\nkey = "id"\nmodel = "iris"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.toml"


def mistake_in(file: Path, text: str) -> str:
    """The one mistake that `text` has."""
    file.write_text(text)
    with pytest.raises(JobsFileError) as caught:
        read_file(file)
    _, line = str(caught.value).splitlines()
    return line.strip()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("batch_rows = '5'", "is '5'; expected a whole number"),
        ("batch_rows = true", "is true; expected a whole number"),
        ("batch_rows = 1_000_001", "is 1,000,001; expected a whole number from 1 to 1,000,000"),
        ("batch_bytes = 3_000_000_000", "expected a whole number from 1,024 to 2,147,483,648"),
        ("allow_full_scans = 1", "is 1; expected true or false"),
        ("deadline = 45", "is 45; expected a duration in quotes, such as '45m'"),
        ("deadline = 2026-01-01", "is a date or time; expected a duration in quotes"),
        ("deadline = '0m'", "'0m' is out of range; expected more than 0 s"),
        ("timezone = 1", "is 1; expected a string in quotes"),
        ("timezone = '../UTC'", "'../UTC' is not a time zone"),
        ("schedule = 'every 0 minutes'", "expected at least 'every 1 second'"),
        ("queue = 'GPU 1'", "'GPU 1' cannot name a queue"),
        ("queue = 'control'", "is a queue of Scorebeat's own"),
        ("name = 'iris'", "is not a key; the name of a job is in [jobs.iris]"),
        ("batchrows = 1", "Did you mean 'batch_rows'"),
        ("on_failure = 'retry'", "is 'retry'; expected 'retry-rows', 'retry-run' or 'leave'"),
        ("results_by = '07:00'", "needs a schedule"),
        ("notify_on = []", "at least one of 'finished'"),
        ("notify_on = ['late', 'done']", "'finished', 'failed', 'late', 'late.expected', 'empty', 'drift' or 'held'"),
        ("schedule = '*/90 * * * *'", "expected 'every 90 minutes'"),
        ("notify = 'hooks.example.org/x'", "is not a URL to post to"),
        ("notify = 'https://hooks.example.org/a b'", "is not a URL to post to"),
        ('notify = "https://hooks.example.org/x\\r\\nHost: other"', "is not a URL to post to"),
        ('notify = "https://hooks.example.org/\\u007f"', "is not a URL to post to"),
        ("changed_at = 'id'", "'id' is part of the key"),
        ("cursor = 'id'\nchanged_at = 'at'", "'id' is part of the key, which stays when a row changes"),
        ("cursor = 'at'\nrescore = 'every-run'", 'is of no use beside rescore = "every-run"'),
        ("lookback = '5m'", "needs changed_at or cursor"),
        ("lookback = true\ncursor = 'at'", "is True; expected a duration in quotes"),
        ("lookback = 0\ncursor = 'at'", "is 0; expected a whole number from 1"),
        ("lookback = '0s'\ncursor = 'at'", "'0s' is out of range"),
        ("sweep = '5m'\ncursor = 'at'\nschedule = 'every hour'", "the job is due each 1h at most"),
        ("changed_at = 'at'\nrescore = 'every-run'", 'is of no use beside rescore = "every-run"'),
        ("changed_at = 'at'\non_failure = 'retry-run'", 'cannot be beside on_failure = "retry-run"'),
        ("keep_history = true", "needs changed_at"),
        ("snapshot = true\nchanged_at = 'at'", "cannot be beside changed_at"),
        ("deleted = 'drop'", "is 'drop'; expected 'keep' or 'follow'"),
        ("deleted = 'follow'\nrescore = 'every-run'", 'is of no use beside rescore = "every-run"'),
        ("deleted = 'follow'\non_failure = 'retry-run'", 'cannot be beside on_failure = "retry-run"'),
        ("keep = 0", "is 0; expected a whole number from 1 to 1,000"),
        ("keep = {a = 1}", "is a table; expected a whole number"),
    ],
)
def test_a_wrong_value_is_refused_with_the_expected_one(file: Path, line: str, expected: str) -> None:
    mistake = mistake_in(file, f"{GOOD}\n# a comment\n{line}\n")

    assert mistake.startswith(f"line 7, jobs.iris.{line.split(' ', maxsplit=1)[0]}: ")
    assert expected in mistake


@pytest.mark.parametrize("name", OF_EVERY_RUN)
def test_a_query_of_other_rows_for_each_run_is_refused_with_deletes_that_follow(file: Path, name: str) -> None:
    query = f"SELECT id, x FROM t WHERE seen = :{name}"
    mistake = mistake_in(file, f"[jobs.iris]\nquery = '{query}'\nkey = 'id'\nmodel = 'iris'\ndeleted = 'follow'\n")

    assert f"is of no use with :{name} in the query" in mistake


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[]", "has 0 columns; expected 1 to 8"),
        ('["a","b","c","d","e","f","g","h","i"]', "has 9 columns; expected 1 to 8"),
        ('""', "'' cannot name a column"),
        (f'"{"k" * 64}"', "expected 1 to 63 bytes"),
        ('"i\\u0000d"', "expected 1 to 63 bytes without NUL"),
        ('["id", 5]', "holds 5; expected column names in quotes"),
        ('"batch_id"', "is a column of every prediction table"),
    ],
)
def test_a_wrong_key_is_refused_with_the_expected_one(file: Path, value: str, expected: str) -> None:
    mistake = mistake_in(file, GOOD.replace('"id"', value))

    assert mistake.startswith("line 3, jobs.iris.key: ")
    assert expected in mistake


@pytest.mark.parametrize(
    "model", ["", "iris/", "iris/0", "iris/03", "iris/x", "iris/1/2", "/3", "ir is", "iris;drop", "3x"]
)
def test_a_wrong_model_is_refused(file: Path, model: str) -> None:
    mistake = mistake_in(file, GOOD.replace('"iris"', f'"{model}"'))

    assert mistake.startswith(f"line 4, jobs.iris.model: {model!r} cannot name a model")


@pytest.mark.parametrize("name", ["Iris", "a__b", "a_", "_a", "9a", "a-b", "a b", "a;drop table x", "a" * 41, "ä", ""])
def test_a_wrong_job_name_is_refused_on_the_line_of_its_header(file: Path, name: str) -> None:
    mistake = mistake_in(file, "\n" + GOOD.replace("iris]", f'"{name}"]'))

    assert mistake.startswith(f"line 2, jobs.{name}: {name!r} cannot name a job")


def test_a_query_is_bounded(file: Path) -> None:
    too_long = mistake_in(file, GOOD.replace("x FROM", f"{'x' * 1_000_000} FROM"))
    with_nul = mistake_in(file, GOOD.replace("x FROM", "x\\u0000 FROM"))

    assert "jobs.iris.query: has 1,000,022 bytes; expected at most 1,000,000" in too_long
    assert "holds a NUL character" in with_nul


def test_every_key_is_in_its_reference_page() -> None:
    headings = re.findall(r"^### `(\w+)`", PAGE, re.MULTILINE)

    assert headings == KEYS


@pytest.mark.parametrize(("value", "key", "message"), DOCUMENTED)
def test_the_reference_page_shows_the_message_that_comes(file: Path, value: str, key: str, message: str) -> None:
    others = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(key.removesuffix("_file")))
    shown = re.search(r"'iris/0'|'batch_id'", message)
    wrong = f'"{shown.group()[1:-1]}"' if shown else value

    assert mistake_in(file, f"{others}{key} = {wrong}\n").endswith(f": {message}")


def test_the_reference_page_shows_messages() -> None:
    assert len(DOCUMENTED) > 10

"""jobs.toml: checked whole, each mistake with its line and what was expected."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from scorebeat.core.errors import JobsFileError
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_file

GOOD = '[jobs.iris]\nquery = "SELECT id, x FROM items"\nkey = "id"\nmodel = "iris"\n'
FAULTY = '''title = "mine"
[jobs.iris]
query = """
SELECT id -- [jobs.not_a_job]
[jobs.neither]
schedule = 5
"""
key = 5
scedule = "19 * * * *"
schedule = "19 * * *"
batch_rows = 0

[jobs."Big__Job"]
query = "  "
key = ["id", "id"]
model = "Iris"
timezone = "Europe/Berln"
queue = "plan"
deadline = "soon"
rescore = "sometimes"
on_failure = "retry-once"
keep = 2.5
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.toml"


def mistakes(file: Path, text: str) -> list[str]:
    """The lines of the message, without their indent and without the first."""
    file.write_text(text)
    with pytest.raises(JobsFileError) as caught:
        read_file(file)
    first, *lines = str(caught.value).splitlines()
    count = f"{len(lines)} mistake{'s' * (len(lines) != 1)}"
    assert first == f"{file}: {count}"
    assert all(line.startswith("  line ") for line in lines)
    assert not re.search(r"pydantic|https?://|\bloc\b|Input should|Value error", str(caught.value))
    return [line.strip() for line in lines]


def test_a_whole_job_is_read(file: Path) -> None:
    file.write_text("""
        [jobs.iris]
        query      = "SELECT id, values FROM items"
        key        = ["customer_id", "as_of"]
        model      = "iris/3"
        schedule   = "19 * * * *"
        timezone   = "Europe/Berlin"
        queue      = "gpu"
        batch_rows = 20_000
        batch_bytes = 1048576
        rescore    = "every-run"
        on_failure = "leave"
        deadline   = "45m"
        keep = 5
        allow_full_scans = true
    """)

    (job,) = read_file(file).jobs

    assert (job.name, job.key, job.model_name, job.pinned_version) == ("iris", ("customer_id", "as_of"), "iris", 3)
    assert (job.deadline, job.batch_rows, job.allow_full_scans) == (timedelta(minutes=45), 20_000, True)
    assert job.due is not None
    assert Job.model_validate(json.loads(json.dumps(job.model_dump(mode="json")))) == job
    assert Job.model_validate_json(job.model_dump_json()) == job


def test_three_keys_are_enough(file: Path) -> None:
    file.write_text(GOOD)

    (job,) = read_file(file).jobs

    assert (job.key, job.pinned_version, job.due, job.queue) == (("id",), None, None, "cpu")
    assert Job.model_validate(job.model_dump(mode="json")) == job


def test_an_empty_file_has_no_jobs(file: Path) -> None:
    file.write_text("# nothing yet\n")

    assert read_file(file).jobs == ()


def test_jobs_keep_the_order_of_the_file(file: Path) -> None:
    file.write_bytes(("\ufeff" + GOOD + GOOD.replace("iris]", "ant]")).replace("\n", "\r\n").encode())

    assert [job.name for job in read_file(file).jobs] == ["iris", "ant"]


def test_the_error_for_a_missing_file_names_how_to_choose_another(file: Path) -> None:
    with pytest.raises(JobsFileError, match=r"jobs\.toml: no such file; .* `apply --file` .* SCOREBEAT_JOBS"):
        read_file(file)


def test_a_file_that_is_no_text_is_refused(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"[jobs.a]\nquery = '\xff'\n")
    with pytest.raises(JobsFileError, match="line 2 is not UTF-8"):
        read_file(file)
    with pytest.raises(JobsFileError, match=r"cannot be read \(Is a directory\)"):
        read_file(tmp_path)


def test_every_mistake_of_every_job_is_reported_at_once(file: Path) -> None:
    assert mistakes(file, FAULTY) == [
        "line 1, title: is not known here; expected [jobs.NAME] blocks only.",
        "line 2, jobs.iris.model: is missing; expected the name of a model, such as 'iris'",
        "line 8, jobs.iris.key: is 5; expected a string in quotes or a list of strings",
        "line 9, jobs.iris.scedule: is not a key of a job. Did you mean 'schedule' or 'sweep'?",
        (
            "line 10, jobs.iris.schedule: '19 * * *' has 4 fields; expected a crontab of 5 fields ('19 * * * *') "
            "or an interval ('every 5 minutes')"
        ),
        "line 11, jobs.iris.batch_rows: is 0; expected a whole number from 1 to 1,000,000",
        (
            "line 13, jobs.Big__Job: 'Big__Job' cannot name a job; expected small letters, digits and single "
            "underscores, a letter first, at most 40 characters"
        ),
        "line 14, jobs.Big__Job.query: is empty; expected a SELECT",
        "line 15, jobs.Big__Job.key: names 'id' twice; expected each column once",
        (
            "line 16, jobs.Big__Job.model: 'Iris' cannot name a model; expected a lower-case letter, then letters, "
            "digits and underscores, at most 40 characters, such as 'iris', or 'iris/3' to pin version 3"
        ),
        (
            "line 17, jobs.Big__Job.timezone: 'Europe/Berln' is not a time zone; expected a name such as 'UTC' or "
            "'Europe/Berlin'. Did you mean 'Europe/Berlin' or 'Europe/Dublin' or 'Europe/Belfast'?"
        ),
        "line 18, jobs.Big__Job.queue: 'plan' is a queue of Scorebeat's own; expected another, such as 'cpu'",
        "line 19, jobs.Big__Job.deadline: 'soon' is not a duration; expected a number and s, m, h or d, such as '45m'",
        "line 20, jobs.Big__Job.rescore: is 'sometimes'; expected 'never' or 'every-run'",
        "line 21, jobs.Big__Job.on_failure: is 'retry-once'; expected 'retry-rows', 'retry-run' or 'leave'",
        "line 22, jobs.Big__Job.keep: is 2.5; expected a whole number",
    ]


def test_two_jobs_of_one_name_are_reported_with_both_lines_and_both_are_checked(file: Path) -> None:
    again = GOOD.replace("[jobs.iris]", '[ jobs . "iris" ] # again') + "batch_rows = 0\n"

    assert mistakes(file, GOOD + "keep = 0\n" + again) == [
        "line 5, jobs.iris.keep: is 0; expected a whole number from 1 to 1,000",
        "line 6, jobs.iris: is repeated; it was first on line 1",
        "line 10, jobs.iris.batch_rows: is 0; expected a whole number from 1 to 1,000,000",
    ]


def test_a_repeated_key_is_reported_with_both_lines(file: Path) -> None:
    assert mistakes(file, GOOD + 'model = "ant"\nkeep = 0\n') == [
        "line 5, jobs.iris.model: is repeated; it was first on line 4",
        "line 6, jobs.iris.keep: is 0; expected a whole number from 1 to 1,000",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iris = 1\n", "line 1, iris: is not known here"),
        ("[job.iris]\n", "line 1, job: is not known here; expected [jobs.NAME] blocks only. Did you mean 'jobs'?"),
        ("jobs = 5\n", "line 1, jobs: is not a block; expected [jobs.NAME]"),
        ("\n[jobs]\niris = 5\n", "line 3, jobs.iris: is not a block of its own; expected [jobs.iris]"),
        ("[[jobs.iris]]\n", "line 1, jobs.iris: is not a block of its own"),
        (GOOD + "[jobs.iris.more]\nx = 1\n", "line 5, jobs.iris.more: is not a key of a job"),
    ],
)
def test_only_blocks_of_jobs_may_be_in_the_file(file: Path, text: str, expected: str) -> None:
    (mistake,) = mistakes(file, text)

    assert mistake.startswith(expected)


@pytest.mark.parametrize(
    ("broken", "line", "expected"),
    [
        ("queue = cpu", 5, "jobs.iris.queue: this is no TOML value; write a string in quotes"),
        ('queue = "cpu', 5, "jobs.iris.queue: this string is not closed"),
        ("queue", 5, "this is not TOML: expected '=' after a key"),
        ('queue = ["cpu"', 6, "jobs.iris.queue: this is not TOML: unclosed array"),
        ('queue = """', 5, "jobs.iris.queue: what begins here is never closed"),
        ('queue = "cpu" "gpu"', 5, "jobs.iris.queue: this is not TOML: expected newline or end of document"),
    ],
)
def test_a_line_that_is_not_toml_is_reported_beside_the_other_mistakes(
    file: Path, broken: str, line: int, expected: str
) -> None:
    text = (
        GOOD.replace("SELECT id, x FROM items", "") + broken + "\n[jobs.ant]\n" + GOOD.partition("\n")[2] + "keep = 0\n"
    )

    found = mistakes(file, text)

    assert "line 2, jobs.iris.query: is empty; expected a SELECT" in found
    assert any(mistake.startswith(f"line {line}, ") and expected in mistake for mistake in found)
    if '"""' not in broken:  # an open text swallows what follows
        assert "line 10, jobs.ant.keep: is 0; expected a whole number from 1 to 1,000" in found
        assert len(found) == 3


def test_a_key_on_a_line_that_is_no_toml_is_not_called_missing(file: Path) -> None:
    assert mistakes(file, GOOD.replace('"id"', "id")) == [
        "line 3, jobs.iris.key: this is no TOML value; write a string in quotes"
    ]


def test_keys_below_a_broken_header_are_not_taken_for_the_job_above(file: Path) -> None:
    rest = GOOD.partition("\n")[2]

    assert mistakes(file, f"{GOOD}[jobs.ant\n{rest}keep = 0\n[jobs.bee]\n{rest}keep = 0\n") == [
        "line 5: this is not TOML: expected ']' at the end of a table declaration",
        "line 14, jobs.bee.keep: is 0; expected a whole number from 1 to 1,000",
    ]

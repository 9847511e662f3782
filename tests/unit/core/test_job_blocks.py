"""`query_file`, `[defaults]` and `[jobs.NAME.parameters]`: what a job has in the end, and mistakes on their lines."""

from datetime import date
from pathlib import Path

import pytest

from scorebeat.core.errors import JobsFileError
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_file, read_files
from scorebeat.core.jobs.parameters import Parameter

QUERY = "SELECT id, x FROM items WHERE x > :least"
BLOCK = 'key = "id"\nmodel = "m"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.toml"


def mistakes(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(JobsFileError) as caught:
        read_file(file)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_a_query_file_is_found_beside_the_jobs_file_from_every_folder(file: Path) -> None:
    (file.parent / "sql").mkdir()
    (file.parent / "sql" / "a.sql").write_bytes(b"\xef\xbb\xbfSELECT id,\r\n 'gr\xc3\xb6\xc3\x9fe' AS x FROM items;\n")
    file.write_text(f'[jobs.a]\nquery_file = "sql/a.sql"\n{BLOCK}')

    (job,) = read_file(file).jobs
    (whole,) = read_files(file.parent)

    assert job.query == "SELECT id,\r\n 'größe' AS x FROM items;\n"
    assert whole.jobs == (job,)


def test_a_query_file_that_cannot_be_used_is_reported_with_its_path(file: Path) -> None:
    (file.parent / "latin.sql").write_bytes(b"SELECT 1\nAS \xe4")
    (file.parent / "empty.sql").write_text(" \n")
    (file.parent / "long.sql").write_text("x" * 1_000_001)
    (file.parent / "folder").mkdir()
    names = ("gone.sql", "latin.sql", "empty.sql", "long.sql", "folder")
    blocks = [f'[jobs.j{n}]\nquery_file = "{name}"\n{BLOCK}' for n, name in enumerate(names)]

    found = mistakes(file, "".join([*blocks, f'[jobs.both]\nquery = "SELECT"\nquery_file = "empty.sql"\n{BLOCK}']))

    assert [line.partition(": ")[0] for line in found] == [
        *(f"line {2 + 4 * n}, jobs.j{n}.query_file" for n in range(5)),
        "line 23, jobs.both.query_file",
    ]
    for line, words in zip(
        found,
        (
            f"there is no file {file.parent / 'gone.sql'}; a path counts from the folder of the jobs file",
            "line 2 is not UTF-8; save the file as UTF-8",
            "is empty; expected a SELECT",
            "expected at most 1,000,000",
            "cannot be read (Is a directory)",
            "is set beside query; expected one of the two",
        ),
        strict=True,
    ):
        assert words in line


def test_each_job_takes_the_defaults_that_it_does_not_set(file: Path) -> None:
    (file.parent / "all.sql").write_text(QUERY)
    file.write_text(
        'owner = "team"\n[defaults]\nkey = "id"\nmodel = "m"\nqueue = "gpu"\nquery_file = "all.sql"\n'
        "[defaults.parameters]\nleast = 1\nother = 2\n"
        '[jobs.a]\n[jobs.b]\nqueue = "cpu"\nquery = "SELECT id, :own AS x FROM items"\n[jobs.b.parameters]\nown = "o"\n'
        "[jobs.c.parameters]\nleast = 1.0\n"
    )

    a, b, c = read_file(file).jobs

    assert (a.queue, a.query, a.key, a.parameters) == ("gpu", QUERY, ("id",), {"least": Parameter.of(1)})
    assert (b.queue, b.query) == ("cpu", "SELECT id, :own AS x FROM items")
    assert b.parameters == {"own": Parameter.of("o")}
    assert c.parameters == {"least": Parameter.of(1.0)}
    assert c != a


def test_a_mistake_in_the_defaults_is_reported_once_on_its_own_line(file: Path) -> None:
    found = mistakes(
        file,
        '[defaults]\nqueu = "gpu"\ntimezone = "Europe/Berln"\nname = "x"\n[defaults.parameters]\nrun_id = 1\n'
        f'[jobs.a]\nquery = "SELECT :run_id"\n{BLOCK}[jobs.b]\nquery = "SELECT :run_id"\n{BLOCK}batch_rows = 0\n',
    )

    assert [line.partition(": ")[0] for line in found] == [
        "line 2, defaults.queu",
        "line 3, defaults.timezone",
        "line 4, defaults.name",
        "line 6, defaults.parameters.run_id",
        "line 15, jobs.b.batch_rows",
    ]
    assert "Did you mean 'queue'" in found[0]
    assert "has a value in every run" in found[3]


def test_parameters_that_cannot_be_values_are_reported_on_their_lines(file: Path) -> None:
    found = mistakes(
        file,
        f'[jobs.a]\nquery = "SELECT"\n{BLOCK}[jobs.a.parameters]\nlist = [1]\nLarge = 1\n'
        'table = { type = "text", text = "x" }\ntime = 07:00:00\nlong = 9223372036854775808\nnul = "\\u0000"\n',
    )

    for line, words in zip(
        found,
        (
            "line 6, jobs.a.parameters.list: is a list; expected a string, a number, true, false, a date or",
            "line 7, jobs.a.parameters.Large: 'Large' cannot name a parameter",
            "line 8, jobs.a.parameters.table: is a table; expected",
            "line 9, jobs.a.parameters.time: is a time; expected",
            "line 10, jobs.a.parameters.long: is 9223372036854775808, which no bigint of PostgreSQL holds",
            "line 11, jobs.a.parameters.nul: holds a NUL character",
        ),
        strict=True,
    ):
        assert line.startswith(words)
    assert mistakes(file, f'[jobs.a]\nquery = "SELECT"\n{BLOCK}parameters = 5\n') == [
        "line 5, jobs.a.parameters: is 5; expected a block [jobs.NAME.parameters] with a value for each name"
    ]


def test_the_ledger_returns_the_parameters_that_were_stored() -> None:
    parameters = {"a": 1, "b": 1.0, "c": "1", "d": True, "e": date(2026, 1, 1), "f": 1e300, "g": 2**40}
    job = Job.model_validate({"name": "a", "query": QUERY, "key": "id", "model": "m", "parameters": parameters})
    plain = job.model_copy(update={"parameters": {}})

    assert Job.model_validate(job.model_dump(mode="json")) == job
    assert len({one.type for one in job.parameters.values()}) == 6
    assert "parameters" not in plain.model_dump(mode="json")  # a release made before reads it

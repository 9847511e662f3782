"""jobs.toml: read and checked whole, every mistake with its line and what was expected."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scorebeat.core.errors import JobsFileError, did_you_mean
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.job_block import DEFAULTS, Block, read_defaults
from scorebeat.core.jobs.toml_lines import Document, Mistake, read, read_text, report, shown

OWNER = "jobs.toml"
"""The owner of jobs that no file of another name has."""
LONGEST_OWNER = 100


@dataclass(frozen=True)
class JobsFile:
    """The jobs of one file."""

    path: Path
    owner: str
    """How the ledger identifies the file: its name, or the `owner` at its top. Paths differ between machines."""
    jobs: tuple[Job, ...]
    is_in_folder: bool = False
    """Read together with all files of its folder."""


def is_owner(name: object) -> bool:
    """Whether it can name the owner of jobs."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST_OWNER and name.strip() == name and name.isprintable()


def read_files(path: Path) -> list[JobsFile]:
    """The jobs file, or each `*.toml` of a folder. Raises JobsFileError, also if two files have one owner or job."""
    if not path.is_dir():
        return [read_file(path)]
    found = [one for one in sorted(path.glob("*.toml")) if not one.name.startswith(".")]
    if not found:
        raise JobsFileError(f"{path}: is a folder without a jobs file; expected files such as {path / 'jobs.toml'}")
    files, mistakes = [], []
    for one in found:
        try:
            files.append(replace(read_file(one), is_in_folder=True))
        except JobsFileError as error:
            mistakes.append(str(error))
    first: dict[str, Path] = {}
    for file in files:
        for what in (f'owner = "{file.owner}"', *(f"[jobs.{job.name}]" for job in file.jobs)):
            if what in first:
                mistakes.append(f"{file.path}: {what} is in {first[what]} too; expected one file for each")
            first.setdefault(what, file.path)
    if mistakes:
        raise JobsFileError("\n".join(mistakes))
    return files


def read_file(path: Path) -> JobsFile:
    """The file with its owner. Raises JobsFileError with all mistakes."""
    text = read_text(path, JobsFileError, "write one, or name another by `apply --file` or the variable SCOREBEAT_JOBS")
    documents, mistakes = read(text)
    defaults = read_defaults(documents[0], mistakes)
    jobs: list[Job] = []
    for document in documents:
        for name, own in _blocks(document, mistakes):
            block = Block(document, name, own, defaults, path.parent)
            job = block.job()
            mistakes += [one for one in block.mistakes if one not in mistakes]  # each job repeats those of [defaults]
            if job is not None:
                jobs.append(job)
    owner = documents[0].data.get("owner", path.name)
    if not is_owner(owner):
        what = f"is {shown(owner)}; expected a name in quotes of at most {LONGEST_OWNER} characters, such as 'team-a'"
        mistakes.append(Mistake(documents[0].line(("owner",)), "owner", what))
    if mistakes:
        raise JobsFileError(report(path, mistakes))
    return JobsFile(path, owner, tuple(jobs))


def _blocks(document: Document, mistakes: list[Mistake]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each `[jobs.NAME]` of the document; what else it holds is added to `mistakes`."""
    for key in document.data:
        if key not in ("jobs", "owner", DEFAULTS):
            what = f"is not known here; expected [jobs.NAME] blocks only.{did_you_mean(key, ['jobs'])}"
            mistakes.append(Mistake(document.line((key,)), key, what))
    jobs = document.data.get("jobs", {})
    if not isinstance(jobs, dict):
        mistakes.append(Mistake(document.line(("jobs",)), "jobs", "is not a block; expected [jobs.NAME]"))
        return
    for name, block in jobs.items():
        if isinstance(block, dict):
            yield name, block
        else:
            what = f"is not a block of its own; expected [jobs.{name}] and its keys below"
            mistakes.append(Mistake(document.line(("jobs", name)), f"jobs.{name}", what))

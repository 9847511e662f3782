"""The store of model versions, a folder or any fsspec URL: what is added to it, and what is given back."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scorebeat.core import watched_command
from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import MANIFEST, Artifact, digest, manifest
from scorebeat.models.contract import NOTHING, Given
from scorebeat.models.formats import registry
from scorebeat.models.formats.shared import refusals
from scorebeat.models.scoring.surroundings import Surroundings
from scorebeat.models.store import cache as copies
from scorebeat.models.store import local
from scorebeat.models.trial import trial

if TYPE_CHECKING:
    from scorebeat.models.store.remote import RemoteStore

Place = Path | str
"""A folder, or a URL such as `s3://bucket/models`."""
MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def add(
    store: Place,
    source: str | Path,
    name: str,
    given: Given = NOTHING,
    *,
    recorded: Mapping[int, str] | None = None,
    cache: Path = copies.HOME,
) -> Artifact:
    """Copy a model into the store as the next version of `name`, after a trial on the rows given, or invented ones.

    `source` is a file, an MLflow folder, or `module:Class`. Safe to call again: files that are the newest
    version already are answered with that version, `is_new=False`. `recorded` has every number that the
    database knows with its digest (an empty one where it was dropped), and a new version is above them; one
    of this digest whose files are gone gets them back, `is_new=False` and `put_back=True`.
    Nothing is ever overwritten, and a version is visible whole or not at all. Raises StoreError when the
    source cannot become a model.
    """
    require_name(name)
    source, recorded = str(source), recorded or {}
    try:
        registry.format_of(source)
    except ModelError as error:
        raise StoreError(f"{source} was not added: {error}") from error
    remote = _remote(store, cache)
    draft = Path(tempfile.mkdtemp(prefix="scorebeat-")) if remote else local.new_draft(Path(store))
    try:
        with watched_command.model_code(f"{source} was not added", draft):
            fresh = _tried(draft, source, name, given)
        return remote.keep(fresh, recorded) if remote else local.keep(Path(store), fresh, recorded)
    except ModelError as error:
        raise StoreError(f"{source} was not added: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def open_artifact(
    store: Place, name: str, version: int, digest_recorded: str, *, cache: Path = copies.HOME
) -> Artifact:
    """The artifact of a version, its files verified against the digest that the database recorded.

    From a URL the files are copied into the folder `cache` first. Raises ModelError when the version is
    missing, or a file in it is missing, altered or surplus; ServiceDown when a store does not answer.
    """
    require_name(name)
    remote = _remote(store, cache)
    find = remote.find if remote else lambda *wanted: local.find(Path(store), *wanted)
    return Artifact.read(find(name, version, digest_recorded), name, version, digest_recorded)


def verify(store: Place, name: str, version: int, digest_recorded: str, *, cache: Path = copies.HOME) -> None:
    """The store itself has the version's files as they were recorded, whatever local copies say.

    Raises ModelError when a file is missing, altered or surplus; ServiceDown when a store does not answer.
    """
    require_name(name)
    remote = _remote(store, cache)
    if remote:
        remote.verify(name, version, digest_recorded)
    else:
        local.find(Path(store), name, version, digest_recorded)


def copy(
    store: Place, name: str, version: int, digest_recorded: str, new_name: str, *, cache: Path = copies.HOME
) -> None:
    """Put a version's files under another name of a model, too, with the same number; safe to repeat.

    Raises ModelError when they are missing, altered or surplus, StoreError where others lie there, ServiceDown.
    """
    require_name(new_name)
    remote = _remote(store, cache)
    if remote:
        remote.copy(name, version, digest_recorded, new_name)
    else:
        local.copy(Path(store), name, version, digest_recorded, new_name)


def remove(store: Place, name: str, version: int, digest_recorded: str, *, cache: Path = copies.HOME) -> None:
    """Delete a version's files; safe to repeat. Raises StoreError or ServiceDown when that cannot be done."""
    require_name(name)
    remote = _remote(store, cache)
    if remote:
        remote.remove(name, version, digest_recorded)
    else:
        local.remove(Path(store), name, version)


def _remote(store: Place, cache: Path) -> "RemoteStore | None":
    if isinstance(store, Path) or "://" not in store:
        return None
    from scorebeat.models.store.remote import RemoteStore  # noqa: PLC0415 -- a folder needs no fsspec, which takes 50 ms

    return RemoteStore(store, cache)


def require_name(name: str) -> None:
    """Raises StoreError where no model can have the name."""
    if not MODEL_NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} is not a model's name: use a lower-case letter, then letters, digits and "
            "underscores, at most 40 characters"
        )


def _tried(draft: Path, source: str, name: str, given: Given) -> Artifact:
    """The draft with the model in it, which left this process and its own files as they were. Raises as `add`."""
    around = Surroundings(name)
    fresh = _fill(draft, source, name, given, around)
    if around.has_closed_descriptors:
        raise StoreError(
            f"{source} was not added: its code closed descriptors that it did not open, as os.closerange does. Here "
            "and in a worker those are connections to the database. Let it close what it opened itself"
        )
    return fresh


def _fill(draft: Path, source: str, name: str, given: Given, around: Surroundings) -> Artifact:
    model_format = registry.format_of(source)
    file = _take(model_format, source, draft, given)
    taken = _files(draft)
    with refusals.told(source, draft, file, tells_versions=True), around.entered():
        described = model_format.inspect(draft / file, given)
    _require_unchanged(draft, taken, source)
    with refusals.told(source, draft, file):
        refusals.require_read(given, model_format.READS, model_format.NAME, source)
        text = manifest(model_format.NAME, file, model_format.DEVICES, described)
        (draft / MANIFEST).write_text(text, "utf-8")
        artifact = Artifact.read(draft, name, 0, digest(draft))
    with refusals.told(source, draft, file, tells_versions=True), around.entered():
        tried = trial.try_out(artifact, given)
        _require_unchanged(draft, taken, source)
        unsure = described.unsure or tried.evidence.unsure if given.sample is None else ""
        evidence = replace(tried.evidence, unsure=unsure)
        return replace(artifact, notes=(*described.notes, *tried.notes), evidence=evidence)


def _files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Each file in the folder, with what changes when somebody writes it."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        if not path.is_dir():
            found[str(path.relative_to(folder))] = (about.st_ino, about.st_size, about.st_mtime_ns)
    return found


def _require_unchanged(draft: Path, taken: dict[str, tuple[int, int, int]], source: str) -> None:
    """The digest is of the files that were tried. Raises StoreError where the model's code changed or deleted some."""
    now = _files(draft) if draft.is_dir() else {}
    changed = sorted(name for name, about in taken.items() if now.get(name) != about)
    if changed:
        what = "deleted" if changed[0] not in now else "changed"
        raise StoreError(
            f"{source} was not added: its code {what} its own files, such as {changed[0]}. They are the model, and "
            "are read-only: let it write to a folder of its own"
        )


def _take(model_format: registry.Format, source: str, draft: Path, given: Given) -> str:
    with refusals.told(source, draft, registry.copy_name(source)):
        return model_format.take(source, draft, given)

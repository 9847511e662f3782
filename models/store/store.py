"""The store of model versions, a folder or any fsspec URL: adds, opens, verifies, copies and removes versions."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.core.identifiers import LONGEST_MODEL_NAME, MODEL_NAME, MODEL_NAME_RULE
from scorebeat.core.process import watched_command
from scorebeat.models.artifact import MANIFEST, Artifact, digest, manifest
from scorebeat.models.contract import NOTHING, AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.formats.shared import refusals
from scorebeat.models.scoring.surroundings import Surroundings
from scorebeat.models.store import cache as copies
from scorebeat.models.store import local
from scorebeat.models.trial import golden, trial

if TYPE_CHECKING:
    from scorebeat.models.store.remote import RemoteStore

Location = Path | str
"""A folder, or a URL such as `s3://bucket/models`."""


def add(
    store: Location,
    source: str | Path,
    name: str,
    add_options: AddOptions = NOTHING,
    *,
    recorded: Mapping[int, str] | None = None,
    cache: Path = copies.HOME,
) -> Artifact:
    """Copy a model into the store as the next version of `name`, after a trial on a person's rows, or on invented ones.

    `source` is a file, an MLflow folder, or `module:Class`. Safe to call again: if the newest version has
    these files, it is returned, with `is_new=False`. `recorded` has every version that the database knows with
    its digest (empty if it was dropped), and a new version is above them. If one of them has this digest and its
    files are gone, they are restored, with `is_new=False` and `put_back=True`. Nothing is ever overwritten, and a
    version is visible completely or not at all. Raises StoreError if the source cannot become a model.
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
            fresh = _take_and_try(draft, source, name, add_options, cache)
        return remote.keep(fresh, recorded) if remote else local.keep(Path(store), fresh, recorded)
    except ModelError as error:
        raise StoreError(f"{source} was not added: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def open_artifact(
    store: Location, name: str, version: int, digest_recorded: str, *, cache: Path = copies.HOME
) -> Artifact:
    """The artifact of a version, its files verified against the digest that the database recorded.

    From a URL the files are copied into the folder `cache` first. Raises ModelError if the version is
    missing, or a file in it is missing, altered or surplus; ServiceDown if a store does not respond.
    """
    require_name(name)
    remote = _remote(store, cache)
    find = remote.find if remote else lambda *wanted: local.find(Path(store), *wanted)
    return Artifact.read(find(name, version, digest_recorded), name, version, digest_recorded)


def verify(store: Location, name: str, version: int, digest_recorded: str, *, cache: Path = copies.HOME) -> None:
    """Verify the version's files in the store itself, not in local copies.

    Raises ModelError if a file is missing, altered or surplus; ServiceDown if a store does not respond.
    """
    require_name(name)
    remote = _remote(store, cache)
    if remote:
        remote.verify(name, version, digest_recorded)
    else:
        local.find(Path(store), name, version, digest_recorded)


def copy(
    store: Location, name: str, version: int, digest_recorded: str, new_name: str, *, cache: Path = copies.HOME
) -> None:
    """Copy a version's files to another model name, with the same version; safe to repeat.

    Raises ModelError if they are missing, altered or surplus, StoreError if other files are there, ServiceDown.
    """
    require_name(new_name)
    remote = _remote(store, cache)
    if remote:
        remote.copy(name, version, digest_recorded, new_name)
    else:
        local.copy(Path(store), name, version, digest_recorded, new_name)


def remove(store: Location, name: str, version: int, digest_recorded: str, *, cache: Path = copies.HOME) -> None:
    """Delete a version's files; safe to repeat. Raises StoreError or ServiceDown if that fails."""
    require_name(name)
    remote = _remote(store, cache)
    if remote:
        remote.remove(name, version, digest_recorded)
    else:
        local.remove(Path(store), name, version)


def _remote(store: Location, cache: Path) -> "RemoteStore | None":
    if isinstance(store, Path) or "://" not in store:
        return None
    from scorebeat.models.store.remote import RemoteStore  # noqa: PLC0415 -- a folder needs no fsspec, which takes 50 ms

    return RemoteStore(store, cache)


def require_name(name: str) -> None:
    """Raises StoreError if no model can have the name."""
    if not MODEL_NAME.fullmatch(name) or len(name) > LONGEST_MODEL_NAME:
        raise StoreError(f"{name!r} is not a model's name: use {MODEL_NAME_RULE}")


def _take_and_try(draft: Path, source: str, name: str, add_options: AddOptions, cache: Path) -> Artifact:
    """Fill the draft and try the model, which must leave this process and its own files unchanged. Raises as `add`."""
    around, model_format = Surroundings(name), registry.format_of(source)
    with refusals.translate_errors(source, draft, registry.copy_name(source)):
        file = model_format.take(source, draft, add_options)
    taken = _files(draft)
    with refusals.translate_errors(source, draft, file, with_versions=True), around.entered():
        described = model_format.inspect(draft / file, add_options)
    _require_unchanged(draft, taken, source)
    with refusals.translate_errors(source, draft, file):
        refusals.require_read(add_options, model_format.READS, model_format.NAME, source)
        if add_options.golden is not None:
            golden.keep(draft, described.signature, add_options.golden)
        text = manifest(model_format.NAME, file, model_format.DEVICES, described)
        (draft / MANIFEST).write_text(text, "utf-8")
        artifact = Artifact.read(draft, name, 0, digest(draft))
    with refusals.translate_errors(source, draft, file, with_versions=True), around.entered():
        tried = trial.try_out(artifact, add_options, cache)
        _require_unchanged(draft, taken, source)
    if around.has_closed_descriptors:
        raise StoreError(
            f"{source} was not added: its code closed descriptors that it did not open, as os.closerange does. Here "
            "and in a worker those are connections to the database. Let it close what it opened itself"
        )
    unsure = described.unsure or tried.evidence.unsure if add_options.sample is None else ""
    evidence = replace(tried.evidence, unsure=unsure)
    return replace(
        artifact,
        notes=(*described.notes, *tried.notes),
        evidence=evidence,
        engine=tried.engine,
        reference=tried.reference,
        reference_source=tried.reference_source,
    )


def _files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Each file in the folder, with its inode, size and time of change."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if not path.is_dir():
            found[str(path.relative_to(folder))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _require_unchanged(draft: Path, taken: dict[str, tuple[int, int, int]], source: str) -> None:
    """Raises StoreError if the model's code changed or deleted files: the digest must be of the tried files."""
    now = _files(draft) if draft.is_dir() else {}
    changed = sorted(name for name, status in taken.items() if now.get(name) != status)
    if changed:
        what = "deleted" if changed[0] not in now else "changed"
        raise StoreError(
            f"{source} was not added: its code {what} its own files, such as {changed[0]}. They are the model, and "
            "are read-only: let it write to a folder of its own"
        )

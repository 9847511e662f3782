"""The store of model versions, a folder: `<name>/<version>/model.toml` beside the model's file."""

import errno
import os
import re
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

from core.errors import ModelError, ScorebeatError, StoreError
from models import registry, scoring
from models.arrow_types import is_text
from models.artifact import MANIFEST, Artifact, digest, manifest
from models.contract import NOTHING, Given
from models.samples import sample

MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_VERSION = re.compile(r"[1-9][0-9]*")
_SAMPLE_ROWS = 3


def add(store: Path, source: str | Path, name: str, given: Given = NOTHING, *, newest_recorded: int = 0) -> Artifact:
    """Copy a model into the store as the next version of `name`, after a trial on invented rows.

    `source` is a file, an MLflow folder, or `module:Class`. Safe to call again: files that are the newest
    version already are answered with that version, `is_new=False`. A new version is above
    `newest_recorded`, the newest that the database knows. Nothing is ever overwritten, and a version is
    visible whole or not at all. Raises StoreError when the source cannot become a model.
    """
    home, source = _home(store, name), str(source)
    try:
        registry.format_of(source)
    except ModelError as error:
        raise StoreError(f"{source} was not added: {error}") from error
    draft = _new_folder(store)
    try:
        fresh = _fill(draft, source, name, given)
        return _already_there(store, fresh) or _publish(home, fresh, newest_recorded)
    except ModelError as error:
        raise StoreError(f"{source} was not added: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def versions(store: Path, name: str) -> list[int]:
    """The versions of a model that lie in the store, in ascending order."""
    home = _home(store, name)
    found = home.iterdir() if home.is_dir() else ()
    return sorted(int(f.name) for f in found if _VERSION.fullmatch(f.name) and f.is_dir())


def open_artifact(store: Path, name: str, version: int, digest_recorded: str) -> Artifact:
    """The artifact of a version, its files verified against the digest that the database recorded.

    Raises ModelError when the folder is missing, or a file in it is missing, altered or surplus.
    """
    folder = _home(store, name) / str(version)
    if not folder.is_dir():
        raise ModelError(
            f"model {name}/{version} is recorded, but {folder} is not there: restore the folder, set "
            "SCOREBEAT_ARTIFACTS to the store that has it, or add the model again"
        )
    found = _digest(folder, f"{name}/{version}")
    if found != digest_recorded:
        raise ModelError(
            f"model {name}/{version} was altered or damaged after it was added: expected digest "
            f"{digest_recorded[:12]}, found {found[:12]} in {folder}. It was not loaded; restore the folder, "
            "or add the model as a new version and publish that"
        )
    return Artifact.read(folder, name, version, found)


def _home(store: Path, name: str) -> Path:
    if not MODEL_NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} is not a model's name: use a lower-case letter, then letters, digits and "
            "underscores, at most 40 characters"
        )
    return store / name


def _new_folder(store: Path) -> Path:
    draft = store / f".adding-{uuid.uuid4().hex}"
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise StoreError(f"the store {store} cannot be written: {error.strerror}") from error
    return draft


def _fill(draft: Path, source: str, name: str, given: Given) -> Artifact:
    model_format = registry.format_of(source)
    file = model_format.take(source, draft, given)
    described = model_format.inspect(draft / file, given)
    text = manifest(model_format.NAME, file, model_format.DEVICES, described)
    (draft / MANIFEST).write_text(text, "utf-8")
    artifact = Artifact.read(draft, name, 0, digest(draft))
    _try(artifact)
    return artifact


def _try(artifact: Artifact) -> None:
    """Score invented rows: does the model run, and do its outputs obey the contract?"""
    model = registry.load(artifact)
    rows = sample(artifact.signature, _SAMPLE_ROWS)
    try:
        scoring.predict(model, rows)
    except ScorebeatError:
        raise
    except Exception as error:
        if any(is_text(i.type) for i in artifact.signature.inputs):
            return  # it may refuse words that it never saw in training
        raise ModelError(
            f"it raised {type(error).__name__} on {_SAMPLE_ROWS} invented rows of "
            f"{', '.join(map(str, artifact.signature.inputs[:8]))}: {error}"
        ) from error


def _already_there(store: Path, fresh: Artifact) -> Artifact | None:
    newest = versions(store, fresh.name)[-1:]
    for version in newest:
        folder = store / fresh.name / str(version)
        if _digest(folder, f"{fresh.name}/{version}") == fresh.digest:
            return Artifact.read(folder, fresh.name, version, fresh.digest)
    return None


def _publish(home: Path, fresh: Artifact, newest_recorded: int) -> Artifact:
    for path in (*fresh.folder.iterdir(), fresh.folder):
        _sync(path)
    home.mkdir(exist_ok=True)
    version = max([newest_recorded, *versions(home.parent, fresh.name)]) + 1
    while not _renamed(fresh.folder, home / str(version)):
        version += 1  # another process took that number in between
    _sync(home)
    _sync(home.parent)
    return replace(fresh, version=version, folder=home / str(version), is_new=True)


def _renamed(draft: Path, target: Path) -> bool:
    try:
        draft.rename(target)  # atomic; refused when the target is a folder that is not empty
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise StoreError(f"{target} cannot be made: {error.strerror}") from error
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(folder: Path, model: str) -> str:
    try:
        return digest(folder)
    except OSError as error:
        raise ModelError(f"model {model}: {error.filename or folder} cannot be read: {error.strerror}") from error

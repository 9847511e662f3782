"""One version of a model on disk: the files of its folder, their digest, and model.toml."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from scorebeat.core.errors import ModelError
from scorebeat.drift.profile import Profile
from scorebeat.models.contract import Described, Signature
from scorebeat.models.engines import CHOSEN_NATIVE, EngineChoice
from scorebeat.models.evidence import Evidence

MANIFEST = "model.toml"


@dataclass(frozen=True)
class Artifact:
    """A model version whose files were verified, or just written."""

    name: str
    version: int
    digest: str
    """SHA-256 over all files of the folder, 64 hex digits."""
    folder: Path
    format: str
    file: str
    """Name of the model's file in `folder`."""
    devices: tuple[str, ...]
    signature: Signature
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the format keeps for itself, such as a classifier's classes."""
    is_new: bool = False
    """Whether `store.add` made this version; False if the version existed."""
    put_back: bool = False
    """Whether `store.add` restored the files of an existing version, which were missing or had changed."""
    notes: tuple[str, ...] = ()
    """Notes of the trial, for the person who adds the model."""
    evidence: Evidence | None = None
    """The result of the trial if `store.add` returned this artifact; not part of the files."""
    engine: EngineChoice = CHOSEN_NATIVE
    """The engine of its workers, likewise."""
    reference: Profile | None = None
    """The profile of the training data, likewise, if a person gave some."""
    reference_source: str = ""
    """Where these rows come from."""

    @property
    def path(self) -> Path:
        return self.folder / self.file

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"

    @classmethod
    def read(cls, folder: Path, name: str, version: int, digest: str) -> Self:
        """The artifact that the folder's model.toml describes. Raises ModelError if it cannot be read."""
        manifest = folder / MANIFEST
        try:
            data = tomllib.loads(manifest.read_text("utf-8"))
            plain = str(data["format"]), str(data["file"]), tuple(map(str, data["devices"]))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise ModelError(f"model {name}/{version}: {manifest} cannot be used: {error!r}") from error
        return cls(name, version, digest, folder, *plain, Signature.from_json(data), dict(data.get("options", {})))


def digest(folder: Path) -> str:
    """SHA-256 of a folder's files: names relative to it in sorted order, sizes and contents.

    Every length is hashed as well, so that no bytes can move from one file to the next unnoticed.
    Raises ModelError for anything that is not a plain file or folder; OSError if it cannot be read.
    """
    whole = hashlib.sha256()
    next(folder.iterdir(), None)  # raises OSError; `rglob` would skip a folder that it may not read
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ModelError(f"{path} is neither a plain file nor a folder: a model's files must lie in its folder")
        if path.is_dir():
            next(path.iterdir(), None)
        if path.is_file():
            name = path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            whole.update(b"%d %b %d " % (len(name), name, path.stat().st_size) + content)
    return whole.hexdigest()


def manifest(model_format: str, file: str, devices: tuple[str, ...], described: Described) -> str:
    """The text of model.toml."""
    head = [
        f"format = {_toml(model_format)}",
        f"file = {_toml(file)}",
        f"devices = [{', '.join(map(_toml, devices))}]",
    ]
    options = [_table("[options]", described.options)] if described.options else []
    rows = [_table(f"[[{kind}]]", row) for kind, rows in described.signature.to_json().items() for row in rows]
    return "\n".join([*head, *options, *rows]) + "\n"


def _table(head: str, row: Mapping[str, Any]) -> str:
    return "\n".join([f"\n{head}", *(f"{key} = {_toml(value)}" for key, value in row.items())])


def _toml(value: Any) -> str:
    # a JSON string is a TOML string, except for DEL and for the surrogate pairs of ASCII-only output
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

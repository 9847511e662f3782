"""The version of the library that wrote a model's file, read from its bytes: nothing in the file is loaded or run."""

import bz2
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scorebeat.core.errors import ModelError, ScorebeatError, one_line

_KEY = rb"_sklearn_version"
_IN_PICKLE = re.compile(_KEY + rb"(?:\x94|q.|r.{4}|\np\d+\n)?(?:\x8c(?P<short>.)|X(?P<long>.{4})|V)", re.DOTALL)
"""The key, perhaps memoized, and the beginning of the string after it, in each of pickle's protocols."""
_IN_SKOPS = re.compile(r'"_sklearn_version":\s*\{[^{}]*"content":\s*"\\"(?P<version>[^"\\]+)\\""')
_IN_JSON = re.compile(rb'"version":\s*\[(\d+),\s*(\d+),\s*(\d+)\]')
_IN_UBJ = re.compile(rb"version\[#L.{7}\x03[iU](.)[iU](.)[iU](.)", re.DOTALL)
_NUMBER = re.compile(r"\d+(\.\d+)+\w*")
_LONGEST = 40
_HEAD = 300
"""Bytes of an ONNX file that have its producer."""
_PRODUCER = (0x12, 0x1A)
"""The tags of a producer's name and version."""
_FLAVORS = {
    "sklearn": ("scikit-learn", "scikit-learn"),
    "xgb": ("xgboost", "XGBoost"),
    "lgb": ("lightgbm", "LightGBM"),
    "catboost": ("catboost", "CatBoost"),
}
"""MLflow's keys of libraries' versions, each with the library's package and name."""


@dataclass(frozen=True)
class Writer:
    """The library that wrote a file, under its name in the package index."""

    package: str
    name: str
    version: str
    installed: str
    """The version that is installed here."""

    @property
    def differs(self) -> bool:
        """Whether another version is installed."""
        return self.installed != self.version

    @property
    def is_newer(self) -> bool:
        """Whether a newer version than the installed one wrote the file."""
        return _parts(self.version) > _parts(self.installed)

    @property
    def advice(self) -> str:
        """What to do with a file that does not open, or may predict other values."""
        return f"install {self.package}=={self.version} here and on every worker, or save the model again"

    def __str__(self) -> str:
        return f"written by {self.name} {self.version}, installed is {self.installed}"


def of_file(path: Path) -> Writer | None:
    """The library that wrote a pickle, a .skops file or an MLflow folder; None for any other model."""
    if path.is_dir():
        return of_mlflow(path)
    if not path.is_file():  # a Python class has no file of its own
        return None
    return of_skops(path) if path.suffix == ".skops" else of_pickle(path)


def of_pickle(path: Path) -> Writer | None:
    """The scikit-learn that wrote a pickle, compressed by joblib or not; None if it holds no such version."""
    content = _uncompressed(path.read_bytes())
    found = _IN_PICKLE.search(content)
    if found is None:
        return None
    end = found.end()
    if found["short"] or found["long"]:
        length = int.from_bytes(found["short"] or found["long"], "little")
        text = content[end : end + min(length, _LONGEST)]
    else:
        text = content[end : end + _LONGEST].partition(b"\n")[0]
    return _sklearn(text.decode("ascii", "replace"))


def of_skops(path: Path) -> Writer | None:
    """The scikit-learn that wrote a .skops file; None if it holds no such version, or is no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = _IN_SKOPS.search(archive.read("schema.json").decode("utf-8", "replace"))
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        return None
    return _sklearn(found["version"]) if found else None


def of_xgboost(path: Path, installed: str) -> Writer | None:
    """The XGBoost that wrote a .ubj or .json file; None if it holds no version."""
    content = path.read_bytes()
    if found := [*_IN_JSON.finditer(content)]:
        numbers = [int(number) for number in found[-1].groups()]
    elif found := [*_IN_UBJ.finditer(content)]:
        numbers = [number[0] for number in found[-1].groups()]
    else:
        return None
    return Writer("xgboost", "XGBoost", ".".join(map(str, numbers)), installed)


def of_onnx(path: Path) -> str:
    """The program that wrote an ONNX file, and its version, such as `pytorch 2.9.0`; empty if the file has none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    texts: dict[int, str] = {}
    offset = 2 if head[:1] == b"\x08" else 0  # the version of ONNX itself, one byte
    while offset + 1 < len(head) and head[offset] in _PRODUCER:
        length = head[offset + 1]
        texts[head[offset]] = head[offset + 2 : offset + 2 + length].decode("ascii", "replace")
        offset += 2 + length
    producer = " ".join(texts[tag] for tag in _PRODUCER if texts.get(tag))
    return producer if producer.isprintable() else ""


def of_mlflow(folder: Path) -> Writer | None:
    """The library that wrote the model in an MLflow folder, if its MLmodel has another version than is installed."""
    try:
        text = (folder / "MLmodel").read_text("utf-8", "replace")
    except OSError:
        return None
    for key, (package, name) in _FLAVORS.items():
        found = re.search(rf"^ +{key}_version: *['\"]?([\w.]+)", text, re.MULTILINE)
        if found is None:
            continue
        with suppress(PackageNotFoundError):
            writer = Writer(package, name, found[1], version(package))
            if writer.differs:
                return writer
    return None


def prepend_versions(writer: Writer | None, message: str) -> str:
    """The message of an error; it begins with the version that wrote the file, if another one is installed."""
    return f"{writer}: {message}" if writer is not None and writer.differs else message


@contextmanager
def prepend_versions_to_errors(writer: Writer | None) -> Iterator[None]:
    """An error of a library, for a file of another version, becomes a ModelError that begins with the versions."""
    try:
        yield
    except ScorebeatError:
        raise
    except Exception as error:
        if writer is None or not writer.differs:
            raise
        raise ModelError(
            f"{writer}: {type(error).__name__}: {one_line(error)}. {writer.advice.capitalize()}"
        ) from error


def notes(writer: Writer | None) -> tuple[str, ...]:
    """A note for a file that another version wrote and that opened nevertheless; none for any other file."""
    if writer is None or not writer.differs:
        return ()
    note = (
        f"{writer}. It opened, but {writer.name} promises the same predictions under the version that wrote the file "
        f"only: {writer.advice}"
    )
    return (note,)


def _sklearn(text: str) -> Writer | None:
    return Writer("scikit-learn", "scikit-learn", text, version("scikit-learn")) if _NUMBER.fullmatch(text) else None


def _parts(number: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", number)[:3]]


def _uncompressed(content: bytes) -> bytes:
    """The content that joblib compressed, or `content` as it is."""
    readers: dict[bytes, Callable[[bytes], bytes]] = {
        b"\x1f\x8b": lambda data: zlib.decompress(data, wbits=31),
        b"x": zlib.decompress,
        b"BZh": bz2.decompress,
        b"\xfd7zXZ": lzma.decompress,
        b"]\x00\x00": lzma.decompress,
    }
    for magic, read in readers.items():
        if content.startswith(magic):
            try:
                return read(content)
            except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError):
                return content
    return content

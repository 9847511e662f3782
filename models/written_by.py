"""Which versions of libraries wrote a model's file, read without opening the model, beside those installed here."""

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

_MARK = "_sklearn_version"
"""What scikit-learn keeps in the state of each estimator."""
_MLMODEL = re.compile(r"^ +(sklearn|xgb|lgb|onnx|pytorch)_version: '?\"?([\w.+]+)", re.MULTILINE)
_PACKAGES = {"sklearn": "scikit-learn", "xgb": "xgboost", "lgb": "lightgbm", "onnx": "onnx", "pytorch": "torch"}
_MOST_BYTES = 1 << 26
"""A longer pickle is not looked through: nearly all of it is numbers."""


def difference(path: Path) -> str:
    """`written by scikit-learn 1.5.2, installed is 1.9.1`; empty where they are the same or the file does not say."""
    try:
        found = dict(_versions(path))
    except Exception:  # noqa: BLE001 -- a file that is damaged says nothing, in any way
        return ""
    apart = [
        f"{package} {version}, installed is {here}"
        for package, version in found.items()
        if (here := _installed(package)) != version
    ]
    return f"written by {' and '.join(apart)}" if apart else ""


def _versions(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        text = (path / "MLmodel").read_text("utf-8")
        yield from ((_PACKAGES[name], version) for name, version in _MLMODEL.findall(text))
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            version = _in_schema(json.loads(file.read("schema.json")))
        if version:
            yield "scikit-learn", version
    elif path.is_file() and path.stat().st_size <= _MOST_BYTES:
        version = _in_pickle(path.read_bytes())
        if version:
            yield "scikit-learn", version


def _in_schema(node: Any) -> str:
    """The first version in a schema of skops."""
    if isinstance(node, dict):
        if _MARK in node and isinstance(node[_MARK], dict):
            return str(json.loads(node[_MARK]["content"]))
        return next((version for each in node.values() if (version := _in_schema(each))), "")
    return next((version for each in node if (version := _in_schema(each))), "") if isinstance(node, list) else ""


def _in_pickle(data: bytes) -> str:
    """The text behind the mark in a pickle, which is taken apart and not run."""
    at = data.find(_MARK.encode())
    if at < 0:
        return ""
    try:
        texts = (value for _, value, _ in pickletools.genops(data) if isinstance(value, str))
        return next(texts, "") if _MARK in texts else ""
    except ValueError:  # joblib puts arrays between the parts of a pickle
        found = re.match(rb"\W+([0-9]+\.[0-9]+[0-9a-z.]*)", data[at + len(_MARK) : at + 60])
        return found[1].decode() if found else ""


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"

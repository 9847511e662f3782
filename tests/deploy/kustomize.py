"""Kustomize's result for a folder of deploy/kubernetes: the parts of it that they use, for machines without it."""

from collections.abc import Iterator
from pathlib import Path
from re import fullmatch
from typing import Any

import yaml  # type: ignore[import-untyped]  # publishes no types

Resource = dict[str, Any]
Generator = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator", "patches"}


def render(folder: Path) -> list[Resource]:
    """Every object that `kubectl apply -k FOLDER` applies. Names of ConfigMaps stay without Kustomize's hash.

    Fails where a file is missing, a patch of an object by its name meets nothing, or a kustomization uses what is not
    known here.
    """
    return _add(folder, [])


def _add(folder: Path, objects: list[Resource]) -> list[Resource]:
    """The objects there are and those of the folder, changed by its kustomization."""
    wanted = yaml.load((folder / "kustomization.yaml").read_text("utf-8"), yaml.CSafeLoader)
    assert set(wanted) <= KNOWN, f"{folder}: {set(wanted) - KNOWN} is not known here"
    made = [*objects, *(found for name in wanted.get("resources", ()) for found in _resources(folder / name))]
    for generator in wanted.get("configMapGenerator", ()):
        made = _generate(folder, generator, made)
    for name in wanted.get("components", ()):
        made = _add(folder / name, made)
    for patch in wanted.get("patches", ()):
        _patch(folder, patch, made)
    for made_one in made:
        if "namespace" in wanted and made_one["kind"] != "Namespace":
            made_one["metadata"]["namespace"] = wanted["namespace"]
    return made


def _resources(path: Path) -> Iterator[Resource]:
    if path.is_dir():
        yield from render(path)
    else:
        yield from (_apart(one) for one in yaml.load_all(path.read_text("utf-8"), yaml.CSafeLoader))


def _apart(value: Any) -> Any:
    """The same without shared parts: what an anchor names twice is one object, and a patch is for one object."""
    if isinstance(value, dict):
        return {key: _apart(one) for key, one in value.items()}
    return [_apart(one) for one in value] if isinstance(value, list) else value


def _generate(folder: Path, wanted: Generator, objects: list[Resource]) -> list[Resource]:
    data = dict(literal.split("=", 1) for literal in wanted.get("literals", ()))
    data |= {name: (folder / name).read_text("utf-8") for name in wanted.get("files", ())}
    before = [one for one in objects if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", wanted["name"])]
    behavior = wanted.get("behavior", "create")
    assert bool(before) == (behavior != "create"), f"{folder}: {behavior} of {wanted['name']}"
    if not before:
        return [*objects, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": wanted["name"]}, "data": data}]
    before[0]["data"] = data if behavior == "replace" else before[0]["data"] | data
    return objects


def _patch(folder: Path, wanted: dict[str, Any], objects: list[Resource]) -> None:
    text = wanted["patch"] if "patch" in wanted else (folder / wanted["path"]).read_text("utf-8")
    target = wanted["target"]
    met = [one for one in objects if _is_meant(one, target)]
    assert met or "labelSelector" in target, f"{folder}: no object is {target}"
    for one in met:
        for step in yaml.load(text, yaml.CSafeLoader):
            _do(one, step)


def _is_meant(one: Resource, target: dict[str, str]) -> bool:
    label, _, value = target.get("labelSelector", "").partition("=")
    return (
        one["kind"] == target["kind"]
        and fullmatch(target.get("name", ".*"), one["metadata"]["name"]) is not None
        and (not label or one["metadata"].get("labels", {}).get(label) == value)
    )


def _do(one: Resource, step: dict[str, Any]) -> None:
    """A step of a JSON patch; `replace` and `remove` of what is not there fail."""
    *parents, last = (part.replace("~1", "/") for part in step["path"].split("/")[1:])
    target: Any = one
    for part in parents:
        target = target[int(part) if isinstance(target, list) else part]
    if step["op"] != "add" and not (isinstance(target, dict) and last in target):
        raise AssertionError(f"{one['kind']} {one['metadata']['name']} has no {step['path']}")
    if step["op"] == "remove":
        del target[last]
    else:
        _put(target, last, _apart(step["value"]))


def _put(target: Any, last: str, value: Any) -> None:
    if last == "-":
        target.append(value)
    else:
        target[last] = value

"""Checks a .pt2 file before PyTorch opens it: only tensors and a graph of PyTorch's own operators pass.

PyTorch warns that torch.export.load may run code in a file. By its source (2.13) this is true for pickled tensors,
constants and example inputs, for compiled libraries, for shapes (SymPy evaluates them), for names (they become
Python source), for operators (any attribute of `torch` is accepted) and for guards, which are never compiled here.
"""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveReader

from scorebeat.core.errors import ModelError

_RECORD = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|archive_(format|version)|byteorder|\.data/\w+|extra/.*"
)
_NAME = re.compile(r"[\w.@-]*")
_DUNDER = re.compile(r"(^|\.)__\w+__($|\.)")
_FREE = frozenset({"as_string", "as_strings", "guards_code", "torch_version"})
_OVERLOAD = re.compile(r"torch\.ops\.(?P<library>aten|prims|quantized)\.(?P<name>\w+)\.(?P<overload>\w+)")
_FILES = frozenset({"from_file", "save"})
"""Operators of aten that open files."""
_Overload: type = type(torch.ops.aten.add.Tensor)
_CONTROL = re.compile(
    r"torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond|map_impl|scan|while_loop)"
    r"|torch\.sym_(not|int|float|max|min|ite|sum)|math\.(ceil|floor|trunc|sqrt)"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|and_|or_|not_|eq|ne|lt|le|gt|ge)"
)
_SHAPE = re.compile(r"[\w\s'()+\-*/%,.=<>!&|~]*")
_SYMBOL = re.compile(r"[a-z]+\d+")
_WORD = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Abs|And|Or|Not|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality"
    r"|GreaterThan|LessThan|StrictGreaterThan|StrictLessThan|[Tt]rue|[Ff]alse|(non)?(positive|negative|zero)|integer"
    r"|real|finite|precision|oo|int_oo|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilDiv|LShift|RShift"
    r"|(Ceil|Floor|Trunc|Round)ToInt|TruncToFloat|ToFloat|RoundDecimal|PowByNatural|FloatPow|(Float|Int)TrueDiv"
    r"|Identity|IsNonOverlappingAndDenseIndicator"
)
_PICKLED = re.compile(r"[^/]*/data\.pkl")
"""The record that a file of torch.save has."""
_CONTAINERS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})


def refuse_code(path: Path) -> None:
    """Raises ModelError naming what in the file could run code, or if it is no such file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as whole:
            records = whole.infolist()
        # example inputs are such a file within the file, and a truncated .pt2 file may end with them
        is_whole = any(record.header_offset == 0 for record in records)
        if is_whole and any(_PICKLED.fullmatch(record.filename) for record in records):
            raise ModelError(
                f"{path.name} was written by torch.save or torch.jit.save, whose files run code when they are opened; "
                "it was not opened. Write the model with torch.export.save(torch.export.export(model.eval(), ...), "
                "'model.pt2')"
            )
    with PT2ArchiveReader(str(path)) as archive:
        names = archive.get_file_names()
        found = [f"the record {name}" for name in names if not _RECORD.fullmatch(name)]
        if not found:
            found = [*_payloads(archive)]
            try:
                torch.load(io.BytesIO(archive.read_bytes("data/sample_inputs/model.pt")), weights_only=True)
            except pickle.UnpicklingError:  # PyTorch itself would then unpickle it without limits
                found.append("the example inputs, which are pickled and more than tensors")
            found += _texts(json.loads(archive.read_string("models/model.json")))
    if found:
        raise ModelError(
            f"{path.name} holds what is not trusted, because it could run code: {'; '.join(found[:4])}"
            f"{' ...' * (len(found) > 4)}. It was not opened. Write it with torch.export.save, with tensors and "
            "PyTorch's own operators only, or export the model to ONNX"
        )


def _payloads(archive: Any) -> Iterator[str]:
    for kind in ("weights", "constants"):
        payloads = json.loads(archive.read_string(f"data/{kind}/model_{kind}_config.json"))["config"]
        for name, payload in payloads.items():
            if not _is_name(name):
                yield f"the name {name[:80]!r}"
            if payload["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
                yield f"{name} in {kind}, which is pickled"
            yield from _texts(payload["tensor_meta"])


def _texts(value: Any, key: str = "") -> Iterator[str]:
    """The problems of the texts in the JSON value of `key`."""
    if isinstance(value, str):
        yield from _text(value, key)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, key)
    elif isinstance(value, dict) and not (key == "metadata" and all(isinstance(v, str) for v in value.values())):
        for name, each in value.items():
            yield from _text(name, "")
            yield from _texts(each, name)


def _text(text: str, key: str) -> Iterator[str]:
    if key in _FREE:
        return
    harmless = {"target": _is_operator, "as_operator": _is_operator, "expr_str": _is_shape}
    harmless |= {"in_spec": _is_tree, "out_spec": _is_tree}
    if not harmless.get(key, _is_name)(text):
        yield f"the {'name' if key not in harmless else key} {text[:80]!r}"


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and not _DUNDER.search(text)


def _is_operator(text: str) -> bool:
    own = _OVERLOAD.fullmatch(text)
    if own is None:
        return bool(_CONTROL.fullmatch(text))
    packet = getattr(getattr(torch.ops, own["library"]), own["name"], None)
    return own["name"] not in _FILES and isinstance(getattr(packet, own["overload"], None), _Overload)


def _is_shape(text: str) -> bool:
    words = re.findall(r"[^\W\d]\w*", text)
    return bool(_SHAPE.fullmatch(text)) and all(_WORD.fullmatch(w) or _SYMBOL.fullmatch(w) for w in words)


def _is_tree(text: str) -> bool:
    """Whether it describes how tensors are nested in Python's own containers."""
    return not text or _is_plain(json.loads(text)[1])


def _is_plain(tree: dict[str, Any]) -> bool:
    context = None if tree["context"] is None else json.loads(tree["context"])
    keys = context is None or (isinstance(context, list) and all(isinstance(key, str) for key in context))
    return tree["type"] in _CONTAINERS and keys and all(map(_is_plain, tree["children_spec"]))

"""A PyTorch file that is damaged, or that could run code, is not opened."""

import io
import json
import logging
import pickle
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from scorebeat.core.errors import ModelError
from scorebeat.models.formats import registry
from tests.contract.test_torch import added, program, refused

pytestmark = pytest.mark.wide

torch = pytest.importorskip("torch", reason="torch is not installed")
__all__ = ["program"]


def test_a_damaged_file_is_reported_in_one_line(program: Path) -> None:
    whole = program.read_bytes()

    for content in (b"", b"junk" * 9, whole[: len(whole) // 2], whole[:-30]):
        program.write_bytes(content)
        refused(program, "m.pt2 was not added: m.pt2 cannot be read as an exported program by PyTorch")
    changed(program, whole, "models/model.json", lambda text: text.replace('"major": 8', '"major": 99'))
    refused(program, "cannot be read as an exported program .* version")


def test_a_file_of_torch_save_is_refused_with_how_to_export_it(program: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, program)

    refused(program, r"m\.pt2 was written by torch\.save .* not opened\. Write the model with torch\.export\.save")


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "code ran")

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def changed(program: Path, whole: bytes, record: str, change: Callable[[Any], str | bytes]) -> None:
    """Write the archive again with one record changed; a new one where there is none of that name."""
    program.write_bytes(whole)
    with zipfile.ZipFile(program) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name = f"{next(iter(records)).partition('/')[0]}/{record}"
    old = records.get(name, b"")
    records[name] = b""
    new = change(old.decode() if record.endswith("json") else old)
    records[name] = new.encode() if isinstance(new, str) else new
    with zipfile.ZipFile(program, "w", zipfile.ZIP_STORED) as archive:
        for each, content in records.items():
            archive.writestr(each, content)


def pickled(config: str) -> str:
    return config.replace('"use_pickle": false', '"use_pickle": true')


def constant(_: str) -> str:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    return json.dumps({"config": {"c": entry}})


RUNS_CODE: dict[str, tuple[str, Callable[..., str | bytes], str]] = {
    "pickled weights": ("data/weights/model_weights_config.json", pickled, "0.weight in weights, which is pickled"),
    "a pickled constant": ("data/constants/model_constants_config.json", constant, "c in constants, which is pickled"),
    "old pickled weights": ("data/weights/model.pt", lambda _: b"", "the record data/weights/model.pt"),
    "a compiled library": ("data/aotinductor/model/x.so", lambda _: b"", "the record data/aotinductor/model/x.so"),
    "a function of torch": (
        "models/model.json",
        lambda text: text.replace("torch.ops.aten.tanh.default", "torch.os.system"),
        "the target 'torch.os.system'",
    ),
    "an operator that opens files": (
        "models/model.json",
        lambda text: text.replace("torch.ops.aten.tanh.default", "torch.ops.aten.from_file.default"),
        "the target 'torch.ops.aten.from_file.default'",
    ),
    "an attribute in place of an operator": (
        "models/model.json",
        lambda text: text.replace("torch.ops.aten.tanh.default", "torch.ops.aten.__class__.mro"),
        "the target 'torch.ops.aten.__class__.mro'",
    ),
    "Python for a size": (
        "models/model.json",
        lambda text: text.replace("Symbol(", "print('s77') or Symbol("),
        'the expr_str "print',
    ),
    "Python for a name": (
        "models/model.json",
        lambda text: text.replace('"tanh"', '"tanh = print(1); x"'),
        r"the name 'tanh = print\(1\); x'",
    ),
    "a module to import": (
        "models/model.json",
        lambda text: text.replace('\\"context\\": \\"[]\\"', '\\"context\\": \\"{\\\\\\"__enum__\\\\\\": 1}\\"'),
        "the in_spec",
    ),
    "Python beside the metadata of a node": (
        "models/model.json",
        lambda text: text.replace('"tensor_values": {', '"tensor_values": {"metadata": {"sizes": ["print()"]}, '),
        r"the name 'print\(\)'",
    ),
}


@pytest.mark.parametrize("title", RUNS_CODE)
def test_a_file_that_could_run_code_is_not_opened(program: Path, title: str) -> None:
    record, change, match = RUNS_CODE[title]

    changed(program, program.read_bytes(), record, change)

    refused(program, f"holds what is not trusted, because it could run code: .*{match}")


def test_pickled_example_inputs_do_not_run(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("torch._export.serde.serialize"), "disabled", True)
    changed(program, program.read_bytes(), "data/sample_inputs/model.pt", lambda _: saved(Canary(program.parent)))

    refused(program, "the example inputs, which are pickled and more than tensors")
    assert not (program.parent / "code ran").exists()

    import_module("torch.export").load(str(program))
    assert (program.parent / "code ran").exists()  # as PyTorch by itself would have


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save((thing,), buffer, pickle_module=pickle)
    return buffer.getvalue()


def test_a_stored_program_that_was_swapped_for_one_that_runs_code_is_not_loaded(program: Path) -> None:
    artifact = added(program)
    changed(artifact.path, program.read_bytes(), "data/weights/model_weights_config.json", pickled)

    with pytest.raises(ModelError, match="could run code"):
        registry.load(artifact)

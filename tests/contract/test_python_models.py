"""A Python class is a model like any other, and its code meets neither ours nor that of another version."""

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pyarrow as pa
import pytest

from scorebeat.core.errors import DeviceMemoryError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Model
from scorebeat.models.formats import registry
from scorebeat.models.formats.python import python_format
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from tests.contract.python_files import CLASS, Write

BOUGHT = """
    import pyarrow.compute as pc

    class Total:
        inputs = {"price": "float64", "count": "int64"}
        outputs = {"total": "float64", "many": "bool"}

        def __init__(self, files, device):
            assert device == "cpu"

        def predict(self, rows):
            assert rows.num_rows
            return {"total": pc.multiply(rows["price"], rows["count"]), "many": pc.greater(rows["count"], 2)}
"""
ROWS = pa.RecordBatch.from_pydict({"price": [1.5, 2.0, 4.0], "count": [1, 3, 5]})
OUTPUTS = {"total": [1.5, 6.0, 20.0], "many": [False, True, True]}


def predict(model: Model, rows: pa.RecordBatch = ROWS) -> dict[str, list[Any]]:
    outputs: dict[str, list[Any]] = score_rows.predict(model, rows).to_pydict()
    return outputs


def test_a_class_scores_as_it_does_by_hand(write: Write, add: Callable[..., Artifact]) -> None:
    write("bought.py", BOUGHT)

    artifact = add("bought:Total")

    assert predict(registry.load(artifact)) == OUTPUTS
    assert predict(registry.load(artifact), ROWS.slice(1, 1)) == {"total": [6.0], "many": [True]}
    assert predict(registry.load(artifact), ROWS.slice(0, 0)) == {"total": [], "many": []}
    assert (artifact.format, artifact.devices) == ("python", ("cpu", "cuda"))
    assert [str(i) for i in artifact.signature.inputs] == ["price float64", "count int64"]


def test_the_store_has_the_code_and_needs_the_original_no_more(write: Write, add: Callable[..., Artifact]) -> None:
    write("bought.py", BOUGHT)
    added = add("bought:Total")
    write("bought.py", "raise RuntimeError")

    opened = store.open_artifact(added.folder.parents[1], "m", added.version, added.digest)

    assert predict(registry.load(opened)) == OUTPUTS
    assert sorted(p.name for p in opened.folder.rglob("*") if p.is_file()) == ["bought.py", "model.toml"]


def test_the_same_code_is_the_same_version_and_other_code_the_next(write: Write, add: Callable[..., Artifact]) -> None:
    write("bought.py", BOUGHT)
    versions = [add("bought:Total").version for _ in range(2)]
    write("bought.py", f"{dedent(BOUGHT)}\n# another line\n")

    assert [*versions, add("bought:Total").version] == [1, 1, 2]


PACKAGE = {
    "__init__.py": "from db.words import NAME\n",
    "words.py": "from pathlib import Path\nNAME = (Path(__file__).parent / 'name.txt').read_text()\n",
    "name.txt": "theirs",
    "late/__init__.py": "",
    "late/word.py": "LATE = 'late'\n",
    "scorer.py": """
        import db
        import db.words as words
        from . import words as again
        from db import words as third
        from .words import NAME
        from importlib import import_module
        from scorebeat.models.inputs.binding import bind

        class Scorer:
            inputs = {"n": "int64"}
            outputs = {"word": "string", "late": "string", "ours": "string"}

            def __init__(self, files, device):
                assert db.NAME == words.NAME == NAME == "theirs" and words is again is third

            def predict(self, rows):
                from db.late.word import LATE
                import db.late
                relative = import_module(".words", __package__)
                assert db.late.word.LATE == LATE and relative is words
                return {"word": [NAME] * len(rows), "late": [LATE] * len(rows), "ours": [bind.__module__] * len(rows)}
    """,
}


def test_a_package_called_as_ours_imports_itself_and_leaves_ours_alone(
    write: Write, add: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name, text in PACKAGE.items():
        write(f"db/{name}", text)
    write("db/__pycache__/scorer.cpython-311.pyc", "stale")
    before = set(sys.modules)

    artifact = add("db.scorer:Scorer")
    model = registry.load(artifact)
    outputs = predict(model, pa.RecordBatch.from_pydict({"n": [1, 2]}))

    assert outputs == {"word": ["theirs"] * 2, "late": ["late"] * 2, "ours": ["scorebeat.models.inputs.binding"] * 2}
    assert not any(name.partition(".")[0] == "db" for name in set(sys.modules) - before)
    store.open_artifact(artifact.folder.parents[1], "m", 1, artifact.digest)  # no bytecode was written beside it
    assert not list(artifact.folder.rglob("__pycache__"))


@pytest.mark.parametrize("helper", ["scorebeat.models.inner", "models.inner"])  # the second was 0.1's
def test_a_module_called_models_may_open_inner_models(
    helper: str, write: Write, add: Callable[..., Artifact], adder: Path
) -> None:
    write(
        "models.py",
        """
        from HELPER import open_model

        class Twice:
            inputs = {"x": "float64", "y": "float64"}
            outputs = {"twice": "float64"}

            def __init__(self, files, device):
                self.inner = open_model(files / "adder.skops", device)

            def predict(self, rows):
                sums = self.inner.predict({"b": rows["x"], "surplus": rows["x"], "a": rows["y"]})
                return {"twice": 2 * sums["value"].to_numpy()}
        """.replace("HELPER", helper),
    )

    model = registry.load(add("models:Twice", str(adder)))

    rows = pa.RecordBatch.from_pydict({"x": [1.0, 5.0], "y": [2.0, 6.0]})
    assert predict(model, rows)["twice"] == pytest.approx([6.0, 22.0])
    assert "models" not in sys.modules


def test_two_versions_in_one_process_do_not_mix(write: Write, add: Callable[..., Artifact]) -> None:
    code = """
        import pkg.word

        class C:
            inputs = {"n": "int64"}
            outputs = {"word": "string", "late": "string"}

            def __init__(self, files, device):
                self.first = pkg.word.WORD

            def predict(self, rows):
                from pkg.late import WORD
                return {"word": [self.first] * len(rows), "late": [WORD] * len(rows)}
    """
    added = []
    for word in ("one", "two"):
        write("pkg/__init__.py", "")
        write("pkg/c.py", code)
        write("pkg/word.py", f"WORD = {word!r}\n")
        write("pkg/late.py", f"WORD = {word!r}\n")
        added.append(add("pkg.c:C"))

    loaded = [registry.load(artifact) for artifact in (*added, added[0])]
    outputs = [predict(model, pa.RecordBatch.from_pydict({"n": [1]})) for model in reversed(loaded)]

    assert outputs == [{"word": [w], "late": [w]} for w in ("one", "two", "one")]
    assert "pkg" not in sys.modules


def test_the_modules_go_with_the_model(write: Write, add: Callable[..., Artifact]) -> None:
    write("bought.py", BOUGHT)
    model = registry.load(add("bought:Total"))
    there = [m for m in sys.modules if m.endswith(".bought")]
    finders = len(sys.meta_path)

    del model

    assert len(there) == 1
    assert there[0] not in sys.modules
    assert len(sys.meta_path) == finders - 1


def test_taking_a_class_imports_nothing(write: Write, tmp_path: Path) -> None:
    write("pkg/__init__.py", "raise RuntimeError")
    write("pkg/sub/m.py", "raise RuntimeError")
    (tmp_path / "draft").mkdir()

    assert python_format.take("pkg.sub.m:C", tmp_path / "draft", AddOptions()) == "pkg.sub.m:C"
    assert (tmp_path / "draft/code/pkg/sub/m.py").read_text() == "raise RuntimeError"


def test_a_class_may_return_each_of_these_forms(write: Write, add: Callable[..., Artifact]) -> None:
    write(
        "kinds.py",
        """
        import numpy as np, pandas as pd, pyarrow as pa

        class C:
            inputs = {"n": "int64", "pixels": "float32[2]"}

            def __init__(self, files, device):
                self.outputs = {"a": "float32", "b": "string", "c": "list<float64>", "d": "timestamp[us, UTC]",
                                "e": "int32", "f": "string"}

            def predict(self, rows):
                n = len(rows)
                frame = pd.DataFrame({"f": ["x" if k % 2 else None for k in rows["n"].to_pylist()]}, dtype=object)
                return {
                    "a": np.ones(n), "b": np.array(["u"] * n), "c": np.ones((n, 2)), "e": pa.chunked_array([rows["n"]])
                    .cast("int32"), "d": [pd.Timestamp("2026-01-31", tz="UTC")] * n, "f": frame["f"],
                }
        """,
    )
    rows = pa.RecordBatch.from_arrays(
        [pa.array([7, 8]), pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))], names=["n", "pixels"]
    )

    outputs = predict(registry.load(add("kinds:C")), rows)

    assert {name: outputs[name] for name in "abcef"} == {
        "a": [1, 1], "b": ["u", "u"], "c": [[1, 1], [1, 1]], "e": [7, 8], "f": ["x", None],
    }  # fmt: skip
    assert [time.isoformat() for time in outputs["d"]] == ["2026-01-31T00:00:00+00:00"] * 2


@pytest.mark.slow
def test_a_lack_of_pytorch_memory_is_reported_so_that_fewer_rows_are_tried(
    write: Write, add: Callable[..., Artifact]
) -> None:
    pytest.importorskip("torch")
    too_many = "import torch\nif len(rows) > 3: raise torch.OutOfMemoryError('CUDA out of memory')\n            return"
    write("good.py", CLASS.replace("return", too_many.replace("\nif", "\n            if")))
    model = registry.load(add("good:C"))

    with pytest.raises(DeviceMemoryError, match="too little memory to score 4 rows at once: CUDA out of memory"):
        model.predict(pa.RecordBatch.from_pydict({"n": [1, 2, 3, 4]}))

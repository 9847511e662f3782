"""An MLflow folder runs only where that was allowed; its signature is ours, and it leaves no trace."""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.core.errors import InputError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import NOTHING, AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from tests.contract.mlflow_files import NOTHING_MORE, library, named_columns, tensors

pytestmark = pytest.mark.wide(slow=6)

pytest.importorskip("mlflow")

REPOSITORY = Path(__file__).parents[2]
ALLOWED = frozenset({"mlflow"})
ECHO = """
import mlflow
class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return {body}
mlflow.models.set_model(Echo())
"""


def saved(folder: Path, body: str, inputs: Any, outputs: Any = None, **options: Any) -> Path:
    """A model of Python code that returns `body`, in a new folder; `inputs` and `outputs` are schemas."""
    folder.mkdir(exist_ok=True)
    (folder / "echo.py").write_text(ECHO.format(body=body))
    mlflow = library()
    known = (inputs, outputs) != (None, None)
    signature = mlflow.models.ModelSignature(inputs=inputs, outputs=outputs) if known else None
    path = folder / "saved"
    mlflow.pyfunc.save_model(path, python_model=str(folder / "echo.py"), signature=signature, **NOTHING_MORE, **options)
    return path


def schema(columns: Mapping[str, str]) -> Any:
    types = library().types
    return types.Schema([types.ColSpec(kind, name) for name, kind in columns.items()])


def added(folder: Path, source: Path, *inputs: str) -> Artifact:
    return store.add(folder / "store", source, "m", AddOptions(inputs, code=ALLOWED))


def test_without_permission_no_code_of_the_folder_runs(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    source = saved(tmp_path / "trap", "model_input['a']", schema({"a": "double"}))
    (source / "echo.py").write_text(f"import os\nos.mkdir({str(trap)!r})\n")

    with pytest.raises(StoreError, match=r"runs code .*not opened.*--allow-code mlflow"):
        store.add(tmp_path / "store", source, "m", NOTHING)
    assert not trap.exists()

    with pytest.raises(StoreError, match=r"cannot be loaded by MLflow: [^\n]*$"):
        added(tmp_path, source)
    assert trap.exists()


def test_columns_have_the_types_of_the_signature(tmp_path: Path) -> None:
    kinds = {"d": "double", "f": "float", "l": "long", "i": "integer", "s": "string", "b": "boolean", "t": "datetime"}
    body = "model_input.assign(types=''.join(t.kind for t in model_input.dtypes))"

    artifact = added(tmp_path, saved(tmp_path / "m", body, schema(kinds)))

    assert [str(i) for i in artifact.signature.inputs] == [
        "d float64", "f float32", "l int64", "i int32", "s string", "b bool", "t timestamp[us]",
    ]  # fmt: skip
    row = {"d": 1.5, "f": 2.5, "l": 2**53 + 1, "i": 7, "s": "Zoë", "b": True, "t": dt.datetime(2026, 1, 2, 3)}
    rows = pa.RecordBatch.from_pylist([row], schema=artifact.signature.columns)
    found = score_rows.predict(registry.load(artifact), rows).to_pylist()[0]
    assert {name: found[name] for name in row} == row
    assert found["types"] == "ffiiObM"


def test_a_null_among_truth_values_is_none_and_changes_no_other_row(tmp_path: Path) -> None:
    body = "model_input['b'].map(lambda b: 0.5 if b is None else float(b)) + (model_input['b'].dtype == object) * 10.0"
    artifact = added(tmp_path, saved(tmp_path / "m", body, schema({"b": "boolean"})))

    rows = pa.RecordBatch.from_pydict({"b": pa.array([True, None, False])})

    assert score_rows.predict(registry.load(artifact), rows).column(0).to_pylist() == [1.0, 10.5, 0.0]


@pytest.mark.parametrize("name", ["l", "i"])
def test_a_null_that_mlflow_has_no_value_for_is_refused_by_column(tmp_path: Path, name: str) -> None:
    source = saved(
        tmp_path / "m", "model_input['d']", schema({"d": "double", "l": "long", "i": "integer", "b": "boolean"})
    )
    artifact = added(tmp_path, source)

    row = {"d": None, "l": 1, "i": 1, "b": True} | {name: None}
    rows = pa.RecordBatch.from_pylist([row], schema=artifact.signature.columns)

    with pytest.raises(InputError, match=f"{name} has 1 NULL"):
        score_rows.predict(registry.load(artifact), rows)


def test_named_outputs_may_come_in_another_order_and_get_other_names(tmp_path: Path) -> None:
    source = saved(
        tmp_path / "m", "{'y': model_input['a'] * 2, 'x': model_input['a']}", schema({"a": "double"}),
        schema({"x": "double", "y": "double"}),
    )  # fmt: skip

    artifact = store.add(tmp_path / "store", source, "m", AddOptions(outputs=("one", "two"), code=ALLOWED))

    rows = pa.RecordBatch.from_pydict({"a": [3.0]})
    assert score_rows.predict(registry.load(artifact), rows).to_pylist() == [{"one": 3.0, "two": 6.0}]


def test_tensors_have_the_shapes_of_the_signature(tmp_path: Path) -> None:
    types = library().types
    spec = types.TensorSpec
    images = types.Schema([spec(np.dtype("float32"), (-1, 2, 3), "image"), spec(np.dtype("int64"), (-1,), "angle")])
    body = "model_input['image'][:, 1, 2] + model_input['angle']"

    artifact = added(tmp_path, saved(tmp_path / "m", body, images))

    assert [str(i) for i in artifact.signature.inputs] == ["image float32[6]", "angle int64"]
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12, dtype=np.float32)), 6)
    rows = pa.RecordBatch.from_arrays([pixels, pa.array([100, 200])], schema=artifact.signature.columns)
    assert score_rows.predict(registry.load(artifact), rows).to_pylist() == [{"value": 105.0}, {"value": 211.0}]
    unknown = pa.RecordBatch.from_arrays([pixels, pa.array([100, None])], schema=artifact.signature.columns)
    with pytest.raises(InputError, match="angle has 1 NULL"):
        score_rows.predict(registry.load(artifact), unknown)


def test_a_signature_that_cannot_be_fed_is_refused_with_the_reason(tmp_path: Path) -> None:
    types = library().types.schema
    array = types.Schema([types.ColSpec(types.Array(types.DataType.double), "v")])
    unnamed = types.Schema([types.ColSpec("double"), types.ColSpec("double")])
    wide = types.Schema([library().types.TensorSpec(np.dtype("float64"), (-1, -1))])
    for at, (inputs, options, message) in enumerate(
        [
            (array, (), "v is Array.*must be one of boolean"),
            (unnamed, (), "2 columns without names: name them with --inputs"),
            (wide, (), "name its values with --inputs"),
            (None, (), "no signature: name its inputs"),
            (schema({"a": "double", "b": "long"}), ("a", "c"), r"fitted on \[a, b\]; --inputs \[a, c\]"),
            (schema({"a": "double"}), ("a:string",), "leave those of a string out"),
        ]
    ):
        source = saved(tmp_path / str(at), "1", inputs)
        with pytest.raises(StoreError, match=message):
            added(tmp_path, source, *options)


TRACELESS = """
import sys
from pathlib import Path
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from scorebeat.models.contract import AddOptions
from scorebeat.models.inputs.samples import sample
root, source = Path(sys.argv[1]), sys.argv[2]
added = store.add(root, source, "m", AddOptions(code=frozenset({"mlflow"})))
score_rows.predict(registry.load(added), sample(added.signature, 3))
store.open_artifact(root, "m", added.version, added.digest)
print(store.add(root, source, "m", AddOptions(code=frozenset({"mlflow"}))).version, "pandas" in sys.modules)
"""


def test_nothing_is_written_and_no_tracking_server_is_contacted(tmp_path: Path) -> None:
    (tmp_path / "own_part.py").write_text("def twice(x): return x * 2")
    body = "__import__('own_part').twice(model_input['a'])"
    source = saved(tmp_path / "m", body, schema({"a": "double"}), code_paths=[str(tmp_path / "own_part.py")])
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHON"))}
    nowhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "HOME": str(home), "PYTHONPATH": str(REPOSITORY)}

    command = [sys.executable, "-c", TRACELESS, str(tmp_path / "store"), str(source)]
    ran = subprocess.run(command, cwd=here, env=env | nowhere, capture_output=True, text=True, timeout=60, check=False)

    assert (ran.returncode, ran.stdout) == (0, "1 True\n"), ran.stderr
    assert not [*here.iterdir(), *home.iterdir()]


def test_each_version_has_its_own_code_although_modules_have_one_name(tmp_path: Path) -> None:
    models = []
    for factor in (2, 3):
        part = tmp_path / "own_part.py"
        part.write_text(f"def scaled(x): return x * {factor}")
        source = saved(tmp_path / str(factor), "model_input['a']", schema({"a": "double"}), code_paths=[str(part)])
        code = ECHO.format(body="own_part.scaled(model_input['a'])")
        (source / "echo.py").write_text(f"import own_part\n{code}")
        models.append(registry.load(added(tmp_path, source)))

    rows = pa.RecordBatch.from_pydict({"a": [1.0]})
    assert [score_rows.predict(model, rows).to_pylist() for model in models] == [[{"a": 2.0}], [{"a": 3.0}]]


def test_a_damaged_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    source, _ = named_columns(tmp_path)
    (source / "model.skops").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot be loaded by MLflow: [^\n]*$"):
        added(tmp_path, source)

    (source / "MLmodel").write_text("flavors: [")
    with pytest.raises(StoreError, match=r"cannot be loaded by MLflow: [^\n]*$"):
        added(tmp_path, source)


def test_as_many_names_as_a_tensor_has_values(tmp_path: Path) -> None:
    source, _ = tensors(tmp_path)

    with pytest.raises(StoreError, match="wants 4 values a row"):
        added(tmp_path, source, "a", "b")

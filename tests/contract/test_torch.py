"""PyTorch programs feed any tensors of rows; what cannot be used is refused with how to export it."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.core.errors import DeviceMemoryError, InputError, ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import bind
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from tests.contract import torch_files
from tests.contract.torch_files import export, linear, module

pytestmark = pytest.mark.wide(slow=10)

torch = pytest.importorskip("torch", reason="torch is not installed")
ROW = torch.ones(3, 4)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return export(tmp_path, linear(3), (ROW,))


def added(path: Path, **options: Any) -> Artifact:
    return store.add(path.parent / "store", path, "m", AddOptions(**options))


def scored(artifact: Artifact, columns: dict[str, Any]) -> list[dict[str, Any]]:
    queried = pa.RecordBatch.from_pydict(columns)
    rows = bind(artifact.signature, queried.schema).apply(queried)
    found: list[dict[str, Any]] = score_rows.predict(registry.load(artifact), rows).to_pylist()
    return found


def computed(tmp_path: Path, forward: Callable[..., Any], *args: Any, axes: Any = None) -> Path:
    return export(tmp_path, module(forward), args or (ROW,), axes)


def test_arrays_and_values_side_by_side_feed_tensors_by_their_names(tmp_path: Path) -> None:
    def weighed(self: Any, ids: Any, weight: Any) -> Any:
        return self, (ids.sum(1) * weight).half()

    path = computed(tmp_path, lambda s, ids, weight: weighed(s, ids, weight)[1], torch.ones(3, 2).long(), torch.ones(3))
    artifact = added(path)

    assert [*map(str, artifact.signature.inputs)] == ["ids int64[2]", "weight float32"]
    assert scored(artifact, {"weight": [2.0, 0.5], "ids": [[1, 2], [3, 4]]}) == [{"value": 6.0}, {"value": 3.5}]


@pytest.mark.parametrize("axes", [None, ({0: torch.export.Dim("rows", min=3, max=8)},), ({0: torch.export.Dim.AUTO},)])
@pytest.mark.parametrize("rows", [1, 2, 8, 9, 30])
def test_any_number_of_rows_is_scored_whatever_the_program_takes_at_once(tmp_path: Path, axes: Any, rows: int) -> None:
    artifact = added(computed(tmp_path, lambda _, x: x.sum(1), axes=axes))

    found = scored(artifact, {"values": [[at, 0.0, 0.0, 1.0] for at in range(rows)]})

    assert found == [{"value": at + 1.0} for at in range(rows)]


def test_the_rows_of_the_query_are_not_changed_by_a_program_that_works_in_place(tmp_path: Path) -> None:
    artifact = added(computed(tmp_path, lambda _, x: x.add_(1).sum(1)))
    values = pa.FixedSizeListArray.from_arrays(pa.array([1.0] * 8, pa.float32()), 4)
    rows = pa.RecordBatch.from_arrays([values], names=["features"])

    first, second = (score_rows.predict(registry.load(artifact), rows).to_pylist() for _ in range(2))

    assert first == second == [{"value": 8.0}, {"value": 8.0}]


def test_a_close_call_of_two_classes_is_settled_by_the_scores(tmp_path: Path) -> None:
    artifact = added(computed(tmp_path, lambda _, x: x[:, :2] * 1e-9 + x[:, 2:] * 0), classes=("no", "yes"))

    found = scored(artifact, {"values": [[1.0, 2.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]})

    assert [row["label"] for row in found] == ["yes", "no", "no"]
    assert artifact.options == {"classes": ["no", "yes"], "softmax": True}


def refused(path: Path, match: str, error: type[Exception] = StoreError, **options: Any) -> None:
    with pytest.raises(error, match=match) as raised:
        added(path, **options)
    assert "\n" not in str(raised.value)
    assert not [*(path.parent / "store").glob("*")]


UNUSABLE: dict[str, tuple[Callable[..., Any], str]] = {
    "a cube": (lambda _, x: x[:, :, None] * torch.ones(2), r"output .* is torch.float32 \[64, 4, 2\]"),
    "a constant": (lambda _, x: (x.sum(1), 7), "output output_1 is 7"),
    "one value for all rows": (lambda _, x: x.sum(0), r"\[4\] for 64 rows"),
    "noise": (lambda _, x: x + torch.rand_like(x), "other values for the same rows at another time"),
}


@pytest.mark.parametrize("title", UNUSABLE)
def test_outputs_that_no_column_holds_are_refused(tmp_path: Path, title: str) -> None:
    forward, match = UNUSABLE[title]

    refused(computed(tmp_path, forward), match)


def test_inputs_that_no_rows_feed_are_refused(tmp_path: Path) -> None:
    first = {0: torch.export.Dim("rows")}

    refused(computed(tmp_path, lambda _, x: x, axes=({},)), "x takes exactly 3 rows; export it with a dynamic")
    refused(
        computed(tmp_path, lambda _, x: x.sum((1, 2)), torch.ones(3, 2, 2)), r"input x is torch.float32 \[s\d+, 2, 2\]"
    )
    refused(computed(tmp_path, lambda _, x: x.abs(), torch.ones(3, dtype=torch.complex64)), "complex64")
    refused(
        computed(tmp_path, lambda _, x, y: x + y.sum(), ROW, ROW.clone(), axes=(first, {0: torch.export.Dim("other")})),
        "x, y may have different numbers of rows",
    )
    wide = computed(tmp_path, lambda _, x: x.sum(1), axes=({**first, 1: torch.export.Dim("values")},))
    refused(wide, "does not say how many values x has: name them with --inputs")
    assert [i.name for i in added(wide, inputs=("a", "b")).signature.inputs] == ["a", "b"]


def test_options_that_do_not_fit_the_model_are_refused(program: Path) -> None:
    refused(program, "wants 4 values a row, but --inputs names 2: a, b", inputs=("a", "b"))
    refused(program, "d string: a tensor holds numbers only", inputs=("a", "b", "c", "d:string"))
    refused(program, "has 3 classes, but --classes names 2: no, yes", classes=("no", "yes"))
    refused(export(program.parent, linear(2), (ROW,)), "names 1: one", classes=("one",))
    many, _ = torch_files.many(program.parent)
    refused(many, r"fitted on \[a, b, c, d\]; --inputs \[a, y, c, d\]", inputs=("a", "y", "c", "d"))
    refused(many, "says the types of its inputs itself: leave those of a string out", inputs=("a:string",))
    refused(many, "returns sum torch.float32, pairs .* but --classes wants one tensor", classes=("x", "y"))


def test_a_program_in_training_is_refused(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2))
    model.eval = model.train  # as a person who forgets it

    refused(export(tmp_path, model, (ROW,)), r"among other rows, as in training: call model.eval\(\)")


def test_a_null_is_refused_and_a_value_that_fails_in_the_program_is_its_error(tmp_path: Path) -> None:
    embedding = torch.nn.Embedding(2, 3)
    artifact = added(export(tmp_path, embedding, (torch.zeros(3).long(),)))

    with pytest.raises(InputError, match="input has 1 NULL"):
        scored(artifact, {"input": pa.array([1, None])})
    with pytest.raises(IndexError):
        scored(artifact, {"input": [1, 2]})


def test_too_little_memory_is_reported_as_such_with_the_number_of_rows(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = registry.load(added(program))

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(import_module("scorebeat.models.formats.torch.torch_format").Program, "run", full)
    rows = pa.RecordBatch.from_pydict({"features": pa.array([[0.0] * 4] * 7, pa.list_(pa.float32(), 4))})

    with pytest.raises(DeviceMemoryError, match=r"score 7 rows at once: .* allocate 2.00 GiB\.$") as raised:
        model.predict(rows)
    assert raised.value.__context__ is None  # it would keep the frames, and they the tensors that filled the device


def test_adding_and_loading_without_torch_name_the_command_to_install_it(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = added(program)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "scorebeat.models.formats.torch.torch_format")

    wanted = r"a model of the format torch needs the package torch.*: pip install 'scorebeat\[torch\]'"
    with pytest.raises(StoreError, match=wanted):
        added(program)
    with pytest.raises(ModelError, match=wanted):
        registry.load(artifact)


def test_a_worker_process_scores_on_one_thread(program: Path) -> None:
    torch.set_num_threads(2)

    registry.load(added(program))

    assert torch.get_num_threads() == 1
    assert np.isfinite([*scored(added(program), {"v": [[1.0] * 4]})[0].values()]).all()

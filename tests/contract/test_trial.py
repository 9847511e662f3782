"""The trial of a model that is added: it scores rows, steadily, and as its own library does."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
)

from scorebeat.core.errors import StoreError, UsageError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats.sklearn import own_predictions
from scorebeat.models.inputs.sample_file import SampleFile
from scorebeat.models.store import store
from tests.contract.python_files import Write

pytestmark = pytest.mark.wide(slow=10, quick=40)

PICKLE = frozenset({"pickle"})
CODES = pd.DataFrame({"code": [10, 20, 30, 40] * 10, "spent": [5.0, 80.0, 3.5, 900.0, 41.0] * 8})
LEAVES = np.array(["no", "yes", "yes", "no", "yes"] * 8)
AGES = pd.DataFrame({"age": [31.0, None, 64.0, 22.0], "city": ["Ghent", "Oslo", "Lyon", "Ghent"], "id": [1, 2, 3, 4]})


def added(folder: Path, model: Any, **options: Any) -> Artifact:
    joblib.dump(model, folder / "m.joblib")
    return store.add(folder / "store", folder / "m.joblib", "m", AddOptions(code=PICKLE, **options))


def refusal(folder: Path, model: Any, **options: Any) -> str:
    with pytest.raises((StoreError, UsageError)) as error:
        added(folder, model, **options)
    assert not (folder / "store" / "m").exists()
    return str(error.value)


def seen(artifact: Artifact) -> str:
    assert artifact.evidence is not None
    return str(artifact.evidence)


def people() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("n", numbers, ["age"]), ("w", OneHotEncoder(), ["city"])])
    table = pd.DataFrame({"age": [31.0, 64.0, 22.0, 40.0] * 5, "city": ["Ghent", "Oslo", "Lyon", "Ghent"] * 5})
    return make_pipeline(columns, LogisticRegression()).fit(table, ["a", "b", "b", "a"] * 5)


def columns_of(**steps: Any) -> ColumnTransformer:
    return ColumnTransformer([(name, step, [name]) for name, step in steps.items()])


@pytest.mark.parametrize(
    "first",
    [
        columns_of(code=OneHotEncoder()),
        columns_of(code=OrdinalEncoder(), spent="passthrough"),
        columns_of(spent=PowerTransformer("box-cox")),
        columns_of(spent=FunctionTransformer(np.log)),
        make_pipeline(columns_of(code=make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()))),
        columns_of(spent=KBinsDiscretizer(3, encode="onehot", quantile_method="averaged_inverted_cdf")),
    ],
    ids=["one-hot", "ordinal", "box-cox", "log", "imputed codes", "bins"],
)
@pytest.mark.parametrize("last", [LogisticRegression(max_iter=500), LinearRegression()], ids=["classes", "values"])
def test_a_model_that_takes_only_values_of_its_training_is_tried_on_those(
    tmp_path: Path, first: Any, last: Any
) -> None:
    target = LEAVES if isinstance(last, LogisticRegression) else CODES["spent"]

    artifact = added(tmp_path, make_pipeline(first, last).fit(CODES, target))

    assert seen(artifact).startswith("8 invented rows: agree with the library")
    assert artifact.notes == ()


def test_a_matrix_of_codes_is_tried_on_the_codes_of_its_training(tmp_path: Path) -> None:
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(CODES[["code"]].to_numpy(), LEAVES)

    assert seen(added(tmp_path, model)).startswith("8 invented rows: agree")


@pytest.mark.slow(quick=2)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".jsonl"])
def test_rows_of_a_file_are_scored_as_the_library_scores_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"people{suffix}"
    if suffix == ".csv":
        AGES.to_csv(path, index=False)
    elif suffix == ".parquet":
        AGES.to_parquet(path, index=False)
    else:
        AGES.to_json(path, orient="records", lines=suffix == ".jsonl")

    artifact = added(tmp_path, people(), sample=SampleFile(path))

    assert seen(artifact).startswith(f"4 rows of people{suffix}: agree with the library")
    assert artifact.notes == (f"people{suffix} has columns that the model does not use: id",)


def test_rows_are_tried_from_the_first_to_the_requested_number(tmp_path: Path) -> None:
    pd.concat([AGES] * 100).to_csv(tmp_path / "people.csv", index=False)

    artifact = added(tmp_path, people(), sample=SampleFile(tmp_path / "people.csv", 3))

    assert seen(artifact).startswith("3 rows of people.csv: agree")


def test_a_file_of_as_many_numbers_as_the_model_has_features_feeds_its_array(tmp_path: Path) -> None:
    model = LinearRegression().fit(CODES.to_numpy(), CODES["spent"])
    CODES.to_csv(tmp_path / "codes.csv", index=False)
    pq.write_table(pa.table({"features": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / "arrays.parquet")

    for name, rows in (("codes.csv", 40), ("arrays.parquet", 2)):
        assert seen(added(tmp_path, model, sample=SampleFile(tmp_path / name))).startswith(f"{rows} rows of {name}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", b"agee,city\n1,Ghent\n", r"no column age\. .* the file has agee, city\. Did you mean 'agee'\?"),
        ("a.csv", b"age;city\n1;Ghent\n", "columns are separated by commas"),
        ("a.csv", b"age,city\nold,Ghent\n", "a.csv cannot be read: In CSV column #0: .*invalid value 'old'"),
        ("a.csv", b"age,city\n", "it has no rows"),
        ("a.csv", b"", "a.csv cannot be read: Empty CSV file"),
        ("a.csv", "age,city\n1,M\u00fcnchen\n".encode("latin-1"), "it is not UTF-8: the byte 0xfc near position 12"),
        ("a.csv", b"age,city\n31,Ghent\n22,Paris\n", r"row 2 of a\.csv it raised ValueError: Found unknown categories"),
        ("a.csv", b"age,city\n31,Ghent,7\n", "Expected 2 columns, got 3"),
        ("a.json", b'{"age": 1', "neither a JSON array of objects nor one object on each line"),
        ("a.json", b"[1, 2]", "row 1 is no object"),
        ("a.json", b'[{"age": 1, "city": "Ghent"}, {"age": 1, "age": 2}]', r"1\.age: the key stands twice"),
        ("a.jsonl", b'{"age": 1, "city": "Ghent"}\n\n{"age": 1, "age": 2}\n', "line 3: age: the key stands twice"),
        ("a.json", b"[" * 200_000, "neither a JSON array .* nested too deeply"),
        ("a.csv", b"age,city,age\n1,Ghent,2\n", "the column age stands in it 2 times"),
        ("a.json", b'[{"age": 1, "city": "Ghent"}, {"age": "old", "city": "Oslo"}]', "column age holds values of"),
        ("a.json", b'[{"age": "1", "city": "Ghent"}]', "age: string cannot become double"),
        ("a.json", b"[]", "it has no column age, city"),
        ("a.parquet", b"PAR1", "a.parquet cannot be read"),
        ("a.xlsx", b"", "expected a file that ends in .csv, .parquet"),
        ("none.csv", None, "none.csv cannot be read: .*No such file"),
    ],
)  # fmt: skip
def test_a_sample_that_cannot_be_used_is_refused_by_what_is_wrong(
    tmp_path: Path, name: str, text: bytes | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text)

    reason = refusal(tmp_path, people(), sample=SampleFile(tmp_path / name))

    assert re.search(message, reason), reason


WHOLE = """
class C:
    inputs = {"n": "int16", "m": "int64"}
    outputs = {"v": "float64"}
    def __init__(self, files, device): ...
    def predict(self, rows):
        return {"v": [float((n or 0) + (m or 0)) for n, m in zip(rows["n"].to_pylist(), rows["m"].to_pylist())]}
"""


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_whole_numbers_of_a_file_keep_their_inputs_width_though_pandas_made_floats(
    write: Write, tmp_path: Path, suffix: str
) -> None:
    write("m.py", WHOLE)
    path = tmp_path / f"rows{suffix}"
    writing = {".csv": pd.DataFrame.to_csv, ".parquet": pd.DataFrame.to_parquet, ".json": pd.DataFrame.to_json}[suffix]
    more: dict[str, Any] = {"orient": "records"} if suffix == ".json" else {"index": False}
    writing(pd.DataFrame({"n": [5.0, None, -32768.0], "m": [1, 2, 2**53 + 1]}), path, **more)

    artifact = store.add(tmp_path / "store", "m:C", "m", AddOptions(sample=SampleFile(path)))

    assert seen(artifact) == f"3 rows of rows{suffix}: scored, with nothing to compare with"
    for wrong in (40_000, 1.5):
        writing(pd.DataFrame({"n": [5.0, wrong], "m": [1, 2]}), path, **more)
        with pytest.raises(UsageError, match=f"--sample .*rows{suffix}: column n has values that are no int16"):
            store.add(tmp_path / "store", "m:C", "m", AddOptions(sample=SampleFile(path)))


def test_a_null_that_the_model_does_not_take_refuses_and_names_its_row_and_column(tmp_path: Path) -> None:
    model = LinearRegression().fit(CODES, CODES["spent"])
    (tmp_path / "c.csv").write_text("code,spent\n10,1\n20,NA\n30,4\n")

    reason = refusal(tmp_path, model, sample=SampleFile(tmp_path / "c.csv"))

    assert "on row 2 of c.csv it raised InputError: ValueError: Input X contains NaN" in reason
    assert "spent has 1 NULL" in reason
    assert "code has" not in reason


@pytest.mark.quick
def test_rows_that_would_be_scored_otherwise_than_by_the_library_refuse_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AGES.to_csv(tmp_path / "people.csv", index=False)
    honest = own_predictions.own_predict

    def other(model: Any, own: Any) -> Any:
        label, probabilities = honest(model, own)
        return [label, probabilities + 2e-9 * (np.arange(len(label)) == 2)[:, None]]

    monkeypatch.setattr(own_predictions, "own_predict", other)
    for options in ({"sample": SampleFile(tmp_path / "people.csv")}, {}):
        reason = refusal(tmp_path, people(), **options)
        assert re.search(r"1 of \d rows would be scored otherwise than by its own library, such as row 3 of ", reason)


def test_a_model_whose_library_cannot_score_the_sample_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AGES.to_csv(tmp_path / "people.csv", index=False)
    monkeypatch.setattr(own_predictions, "own_predict", lambda *_: 1 / 0)

    reason = refusal(tmp_path, people(), sample=SampleFile(tmp_path / "people.csv"))

    assert "its own library does not score people.csv, which here is scored: it raised ZeroDivisionError" in reason


def only_known(values: Any) -> Any:
    if not np.isin(values, [10, 20, 30, 40]).all():
        raise ValueError("no such code")
    return values


def test_an_error_that_other_rows_may_not_raise_is_kept_as_the_evidence(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(only_known), LogisticRegression())
    model.fit(CODES[["code"]].to_numpy(), LEAVES)

    unsure = added(tmp_path, model, inputs=("code",))

    assert seen(unsure) == "none: 8 invented rows raised ValueError: no such code"
    assert "no row was scored" in unsure.notes[0]
    CODES.to_csv(tmp_path / "codes.csv", index=False)
    again = added(tmp_path, model, inputs=("code",), sample=SampleFile(tmp_path / "codes.csv"))
    assert seen(again).startswith("40 rows of codes.csv: agree with the library")
    assert (again.version, again.is_new, again.digest) == (unsure.version, False, unsure.digest)


@pytest.mark.parametrize("error", ["1 + 'a'", "nosuch", "rows.nosuch", "(_ for _ in ()).throw(NotImplementedError())"])
def test_an_error_that_every_row_raises_refuses_the_model(write: Write, tmp_path: Path, error: str) -> None:
    write("m.py", CLASS.format(before="", returned=error))

    with pytest.raises(StoreError, match=r"invented rows of n float64\. If rows of yours would do, give some with"):
        store.add(tmp_path / "store", "m:C", "m")


def test_a_matrix_of_another_width_is_an_error_of_every_row(write: Write, tmp_path: Path) -> None:
    write("m.py", CLASS.format(before="", returned="{'v': __import__('numpy').ones((len(rows), 2)) @ [1, 2, 3]}"))

    with pytest.raises(StoreError, match=r"raised ValueError: .*invented rows"):
        store.add(tmp_path / "store", "m:C", "m")


CLASS = """
class C:
    inputs = {{"n": "float64"}}
    outputs = {{"v": "float64"}}
    def __init__(self, files, device):
        self.calls = 0
    def predict(self, rows):
        self.calls += 1
        n = rows["n"].to_numpy(zero_copy_only=False)
        {before}
        return {returned}
"""
BESIDE = "a row alone than among other rows: row 1, row 2"
AGAIN = "the same rows come again: row 1, row 2"


@pytest.mark.quick
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'v': n + self.calls}", AGAIN),
        ("{'v': __import__('numpy').random.default_rng().normal(size=len(n))}", AGAIN),
        ("{'v': n - n.mean()}", BESIDE),
        ("{'v': n.cumsum()}", "a row alone than among other rows: row 2, row 3"),
        ("{'v': n * (1 + 1e-6 * len(n))}", BESIDE),
    ],
)
def test_predictions_that_depend_on_chance_or_on_other_rows_refuse_the_model(
    write: Write, tmp_path: Path, returned: str, message: str
) -> None:
    write("m.py", CLASS.format(before="", returned=returned))

    with pytest.raises(StoreError, match=message) as error:
        store.add(tmp_path / "store", "m:C", "m")

    assert "accept it with --allow-unsteady" in str(error.value)
    accepted = store.add(tmp_path / "store", "m:C", "m", AddOptions(unsteady=True))
    assert "accepted: it returns other values for" in seen(accepted).replace("when", "for")
    assert "may get other predictions" in accepted.notes[0]


@pytest.mark.parametrize(
    "returned", ["{'v': n * 3}", "{'v': (n.astype('f4') * (1 + 1e-6 * (len(n) == 1))).astype('f4')}"]
)
def test_rounding_refuses_no_model(write: Write, tmp_path: Path, returned: str) -> None:
    write("m.py", CLASS.format(before="", returned=returned))

    assert seen(store.add(tmp_path / "store", "m:C", "m")) == "8 invented rows: scored, with nothing to compare with"


def centred() -> Any:
    from onnx import TensorProto, helper  # noqa: PLC0415 -- as the files of the other tests are made

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1)
    nodes = [mean, helper.make_node("Sub", ["x", "m"], ["y"])]
    return helper.make_graph(nodes, "centred", [x], [y], [axes])


def noisy() -> Any:
    from onnx import TensorProto, helper  # noqa: PLC0415 -- as above

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    noise = helper.make_node("RandomNormalLike", ["x"], ["r"])
    return helper.make_graph([noise, helper.make_node("Add", ["x", "r"], ["y"])], "noisy", [x], [y])


def dropping() -> Any:
    from onnx import TensorProto, helper  # noqa: PLC0415 -- as above

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    ratio = helper.make_tensor("ratio", TensorProto.FLOAT, [], [0.5])
    training = helper.make_tensor("training", TensorProto.BOOL, [], [True])
    node = helper.make_node("Dropout", ["x", "ratio", "training"], ["y"])
    return helper.make_graph([node], "dropping", [x], [y], [ratio, training])


@pytest.mark.quick
@pytest.mark.parametrize(
    ("graph", "message"),
    [(centred, "a row alone"), (noisy, "at each run, with RandomN"), (dropping, "training, with Drop")],
)
def test_a_graph_in_which_rows_or_calls_differ_is_refused(
    tmp_path: Path, graph: Callable[[], Any], message: str
) -> None:
    from onnx import helper, save  # noqa: PLC0415 -- as above

    made = helper.make_model(graph(), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(made, tmp_path / "m.onnx")

    with pytest.raises(StoreError, match=message):
        store.add(tmp_path / "store", tmp_path / "m.onnx", "m")

    assert "accepted" in seen(store.add(tmp_path / "store", tmp_path / "m.onnx", "m", AddOptions(unsteady=True)))


def test_words_of_training_are_tried_on_a_model_that_reads_text(tmp_path: Path) -> None:
    model = make_pipeline(CountVectorizer(), LogisticRegression())
    model.fit(["good thing", "bad thing"], ["good", "bad"])

    assert seen(added(tmp_path, model)).startswith("8 invented rows: agree")
    (tmp_path / "t.json").write_text(json.dumps([{"text": "a good one"}, {"text": ""}]))
    assert seen(added(tmp_path, model, sample=SampleFile(tmp_path / "t.json"))).startswith("2 rows of t.json: agree")


def crossed(table: Any) -> Any:
    return table.assign(both=table["code"].astype(str) + "_" + table["city"])


def cross() -> tuple[Any, Any]:
    """A model whose own code distinguishes whole numbers from others, and the DataFrame that it was fitted on."""
    table = pd.DataFrame({"code": [5, 10, 20, 30] * 10, "city": ["Ghent", "Oslo"] * 20, "age": np.arange(40.0)})
    encoder = ColumnTransformer([("k", OneHotEncoder(handle_unknown="ignore"), ["both"])])
    model = make_pipeline(FunctionTransformer(crossed), encoder, LogisticRegression())
    return model.fit(table, table["code"] > 10), table


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_sample_rows_are_compared_as_they_are_and_not_as_inputs_declares(tmp_path: Path, suffix: str) -> None:
    model, table = cross()
    path = tmp_path / f"rows{suffix}"
    write = {".csv": table.to_csv, ".parquet": table.to_parquet, ".json": partial(table.to_json, orient="records")}
    write[suffix](path, **({} if suffix == ".json" else {"index": False}))

    reason = refusal(tmp_path, model, sample=SampleFile(path), inputs=("code", "city:string", "age"))

    assert "would be scored otherwise than by its own library" in reason
    assert "region:int64,active:bool" in reason
    right = added(tmp_path, model, sample=SampleFile(path), inputs=("code:int64", "city:string", "age"))
    assert seen(right).startswith(f"40 rows of rows{suffix}: agree")


def digits(table: Any) -> Any:
    return table.assign(code=table["code"].astype(str).str.len())


def test_own_code_that_distinguishes_whole_numbers_is_a_doubt_until_types_are_set(tmp_path: Path) -> None:
    table = pd.DataFrame({"code": [5, 10, 200, 3000] * 10, "age": np.arange(40.0)})
    model = make_pipeline(FunctionTransformer(digits), LogisticRegression()).fit(table, table["code"] > 10)

    unsure = added(tmp_path, model).evidence

    assert unsure is not None
    assert not unsure.is_enough
    assert "--inputs code:int64" in unsure.unsure
    sure = added(tmp_path, model, inputs=("code:int64", "age:float64")).evidence
    assert sure is not None
    assert sure.is_enough

"""A Python class that cannot be a model is refused, with the file and line or the column that is to blame."""

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pyarrow as pa
import pytest

from scorebeat.core.errors import ModelError, OutputError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions
from scorebeat.models.formats import registry
from scorebeat.models.scoring import score_rows
from scorebeat.models.store import store
from tests.contract.python_files import CLASS, Write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise ValueError('no\\nluck')", "bad:C failed in bad.py, line 2: ValueError: no luck"),
        ("x = 1\nx = = 2", "bad:C failed in bad.py, line 2: SyntaxError"),
        ("import sys\nsys.exit('gone')", "bad:C failed in bad.py, line 2: SystemExit: gone"),
        ("import nowhere.at.all", "needs the module nowhere, which cannot be imported here: install the package"),
        ("import bad.inner", "bad:C failed in bad.py, line 1: ModuleNotFoundError: No module named 'bad.inner'"),
        ("class B: pass", "bad has no class C"),
        ("class Cc: pass", "bad has no class C. Did you mean 'Cc'?"),
        ("def C(files, device): pass", "bad has no class C"),
        ("class C:\n  def __init__(self, files, device):\n    open(files / 'no.csv')", "bad.py, line 3: FileNotFound"),
        ("class C:\n  pass", "bad:C is made with two arguments, __init__(self, files, device): too many"),
        ("class C:\n  def __init__(self): ...", "bad:C is made with two arguments, __init__(self, files, device)"),
        (CLASS.replace("predict", "score"), "bad:C has no predict(rows)"),
        (CLASS.replace('{"n": "int64"}', '["n"]'), "bad:C has no usable `inputs`: expected names with their types"),
        (CLASS.replace("outputs =", "returns ="), "bad:C has no usable `outputs`"),
        (CLASS.replace("int64", "int8"), "bad:C.inputs['n']: 'n:int8': unknown type 'int8'"),
        (CLASS.replace('"string"', '"text"'), "bad:C.outputs['word']: unknown type 'text'"),
        (CLASS.replace('"word": "string"', '"batch_id": "string"'), "'batch_id' is the name of a column that every"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_with_its_file_and_line(
    refuse: Callable[[str], str], text: str, message: str
) -> None:
    before = set(sys.modules)

    assert message in refuse(dedent(text))
    assert not [name for name in set(sys.modules) - before if name.startswith("_scorebeat_code_")]


def test_the_class_is_blamed_and_no_library_with_a_relative_store_too(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("bad.py", CLASS.replace("pass", 'open(str(files) + "/no.csv", mode="zz")'))
    monkeypatch.syspath_prepend(".")

    with pytest.raises(StoreError, match=r"bad:C failed in bad\.py, line 7: ValueError: invalid mode"):
        store.add(Path("artifacts"), "bad:C", "m")
    write("bad.py", CLASS.replace("pass", 'import json; json.loads("{")'))
    with pytest.raises(StoreError, match=r"bad:C failed in bad\.py, line 7: JSONDecodeError"):
        store.add(Path("artifacts"), "bad:C", "m")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ('["a"] * len(rows)', "bad:C.predict returned list, expected a dict of columns or a RecordBatch"),
        ('{"word": ["a"]}', "bad:C returned 1 values in 'word' for 8 rows"),
        ('{"word": [1] * len(rows)}', "bad:C returned values in 'word' that are not string"),
        ('{"words": ["a"] * len(rows)}', "the model returned the columns words string, expected word string"),
        ('{"word": rows["n"]}', "the model's column 'word' is int64, expected string"),
        ("rows", "the model returned the columns n int64, expected word string"),
        ("1 / 'a'", "it raised TypeError: unsupported operand type(s) for /: 'int' and 'str' on 8 invented rows"),
    ],
)
def test_outputs_that_break_the_contract_are_refused_when_the_class_is_added(
    refuse: Callable[[str], str], returned: str, message: str
) -> None:
    assert message in refuse(CLASS.replace('{"word": ["a"] * len(rows)}', returned))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nosuch:C", "there is no module nosuch in the current folder"),
        ("sys:C", "module sys has no Python source"),
        ("math:C", "module math has no Python source"),
        ("folder:C", "the folder folder is no package: it has no __init__.py"),
        ("folder.m:C", "the folder folder is no package: it has no __init__.py"),
        ("bad.m:C", "bad.m is not there"),
        ("pkg.nosuch:C", "there is no module pkg.nosuch in the package"),
    ],
)
def test_a_source_that_cannot_be_copied_is_refused(
    write: Write, refuse: Callable[[str, str], str], source: str, message: str
) -> None:
    write("folder/m.py", CLASS)
    write("pkg/__init__.py", "")

    assert message in refuse(CLASS, source)


def test_files_that_are_absent_or_of_one_name_are_refused(write: Write, add: Callable[..., Artifact]) -> None:
    write("good.py", CLASS)
    write("a/names.csv", "x")
    write("b/names.csv", "y")

    with pytest.raises(StoreError, match=r"--file nosuch.csv: there is no such file"):
        add("good:C", "nosuch.csv")
    with pytest.raises(StoreError, match=r"--file b/names.csv: a file called names.csv is among them already"):
        add("good:C", "a/names.csv", "b/names.csv")
    with pytest.raises(StoreError, match="names its inputs and outputs itself"):
        store.add(Path("store"), "good:C", "m", AddOptions(inputs=("n",)))
    assert (add("good:C", "a").folder / "files/a/names.csv").read_text() == "x"


@pytest.mark.parametrize("file", ["code/good.py", "files/names.csv"])
def test_altered_code_or_files_are_not_run(write: Write, add: Callable[..., Artifact], file: str) -> None:
    write("good.py", CLASS)
    write("names.csv", "x")
    added = add("good:C", "names.csv")
    (added.folder / file).write_text("altered")

    with pytest.raises(ModelError, match="was altered or damaged"):
        store.open_artifact(added.folder.parents[1], "m", 1, added.digest)


def test_an_output_that_breaks_the_contract_later_is_refused(write: Write, add: Callable[..., Artifact]) -> None:
    write("good.py", CLASS.replace("* len(rows)", "* min(len(rows), 8)"))
    model = registry.load(add("good:C"))

    with pytest.raises(OutputError, match="returned 8 values in 'word' for 9 rows"):
        score_rows.predict(model, pa.RecordBatch.from_pydict({"n": [*range(9)]}))

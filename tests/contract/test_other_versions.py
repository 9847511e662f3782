"""A file of another version of its library is refused by both versions, never by a package to install that is none."""

import re
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from scorebeat.core.errors import StoreError
from scorebeat.models import store
from scorebeat.models.contract import Given

HERE = sklearn.__version__
X = np.random.default_rng(0).normal(size=(40, 2))
Y = X.sum(axis=1) > 0
BOTH = rf"written by scikit-learn 1\.5\.2, installed is {re.escape(HERE)}"


def refusal(folder: Path, file: Path, *code: str) -> str:
    with pytest.raises(StoreError) as error:
        store.add(folder / "store", file, "m", Given(code=frozenset(code)))
    return str(error.value)


def older_skops(path: Path, model: Any, **changes: str) -> Path:
    """The file as 1.5.2 wrote it: under its version, and other names of modules."""
    skops.io.dump(model, path.with_suffix(".new"))
    with zipfile.ZipFile(path.with_suffix(".new")) as new, zipfile.ZipFile(path, "w") as old:
        for name in new.namelist():
            data = new.read(name)
            if name == "schema.json":
                data = data.replace(HERE.encode(), b"1.5.2")
                for before, after in changes.items():
                    data = data.replace(before.replace("__", ".").encode(), after.encode())
            old.writestr(name, data)
    return path


def older_pickle(path: Path, model: Any, before: bytes = b"", after: bytes = b"") -> Path:
    """The same of a pickle; texts keep their lengths."""
    joblib.dump(model, path)
    path.write_bytes(path.read_bytes().replace(HERE.encode(), b"1.5.2").replace(before, after))
    return path


def test_a_type_of_a_module_that_moved_is_no_type_to_trust(tmp_path: Path) -> None:
    model = GradientBoostingClassifier(n_estimators=2).fit(X, Y)
    file = older_skops(tmp_path / "m.skops", model, sklearn___loss___loss="_loss", sklearn___loss__loss="_loss")

    told = refusal(tmp_path, file)

    assert re.search(rf"m\.skops was {BOTH}: it holds types that are not here: _loss\.", told), told
    assert "--trust" not in told
    assert "install the package" not in told


@pytest.mark.skipif(len(HERE) != len("1.5.2"), reason="lengths in a pickle would not fit")
def test_a_module_that_moved_is_no_package_to_install(tmp_path: Path) -> None:
    model = GradientBoostingClassifier(n_estimators=2).fit(X, Y)
    file = older_pickle(tmp_path / "m.joblib", model, b"sklearn._loss.loss", b"_sklearn_loss_loss")

    told = refusal(tmp_path, file, "pickle")

    assert re.search(rf"cannot be read as a pickle: No module named '_sklearn_loss_loss'\. It was {BOTH}", told), told
    assert "install the package" not in told


@pytest.mark.skipif(len(HERE) != len("1.5.2"), reason="as above")
def test_an_attribute_that_an_older_version_did_not_have_names_both_versions_behind_the_librarys_words(
    tmp_path: Path,
) -> None:
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, Y)
    del model[0]._fill_dtype
    skops_file = older_skops(tmp_path / "m.skops", model)
    pickle_file = older_pickle(tmp_path / "m.joblib", model)

    for file, code in ((skops_file, ()), (pickle_file, ("pickle",))):
        told = refusal(tmp_path, file, *code)
        assert re.search(rf"AttributeError: .*_fill_dtype.*The file was {BOTH}, which may be why", told), told


def test_a_file_of_the_installed_version_says_nothing_of_versions(tmp_path: Path) -> None:
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, Y)
    del model[0].statistics_
    skops.io.dump(model, tmp_path / "m.skops")

    assert "installed is" not in refusal(tmp_path, tmp_path / "m.skops")

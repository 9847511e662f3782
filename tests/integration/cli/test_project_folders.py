"""A folder full of the user's own code, under names that are ours or our libraries', works as any other folder."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from scorebeat.core.states import RunState
from tests.support.fixtures import REPOSITORY, environment
from tests.support.system import System, own_system

pytestmark = pytest.mark.wide

NAMES = (
    "api", "celery", "core", "db", "examples", "flower", "kombu", "monitor", "ops", "producer", "redis", "scorer",
    "sqlalchemy", "utils", "worker",
)  # fmt: skip
"""Of modules that lie in the folder; `models` is a package there."""
SHADOW = "raise ImportError('{name}.py of the user was imported instead of a library or of ours')\n"
NET = """\
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from core.scales import SCALE


class Net(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return np.asarray(X).sum(axis=1) * SCALE
"""
WRITE = """\
import joblib
import numpy as np

from models.net import Net

joblib.dump(Net().fit(np.zeros((3, 4)), np.zeros(3)), "net.pkl")
"""
SAVE = """\
import mlflow.pyfunc
import numpy as np
from mlflow.models import infer_signature
import pandas as pd

from models.flavour import Flavour

rows = pd.DataFrame({name: [1.0, 2.0] for name in "abcd"})
mlflow.pyfunc.save_model(
    "saved", python_model=Flavour(), code_paths=["models", "core"], pip_requirements=["numpy"],
    signature=infer_signature(rows, np.array([1.0, 2.0])),
)
"""
FLAVOUR = """\
import mlflow.pyfunc

from core.scales import SCALE


class Flavour(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.sum(axis=1).to_numpy() * SCALE
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with own_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder, with a pickle and an MLflow folder whose code is called `models` and `core`."""
    folder = tmp_path_factory.mktemp("project")
    for package, files in {
        "models": {"__init__": "", "net": NET, "flavour": FLAVOUR},
        "core": {"__init__": "", "scales": "SCALE = 3.0\n"},
    }.items():
        (folder / package).mkdir()
        for name, text in files.items():
            (folder / package / f"{name}.py").write_text(text)
    for program in (WRITE, SAVE):
        subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)
    for name in set(NAMES) - {"core"}:
        (folder / f"{name}.py").write_text(SHADOW.format(name=name))
    return folder


def scorebeat(system: System, folder: Path, *arguments: str) -> str:
    """The output of the command, typed in the folder."""
    command = [str(Path(sys.executable).with_name("scorebeat")), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(system.settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workers(system: System, project: Path) -> None:
    """`scorebeat worker` twice, started in the folder."""
    for number, options in enumerate((("--device", "cpu", "--processes", "1"), ("--control",))):
        log = system.programs.folder / f"project-{number}.log"
        with log.open("wb") as output:
            process = Popen(
                [str(Path(sys.executable).with_name("scorebeat")), "worker", *options],
                cwd=project, env=environment(system.settings), stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        system.programs.started.append((process, log))
    system.programs.beat()


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    ("name", "source", "permission"), [("net", "net.pkl", "pickle"), ("flavour", "saved", "mlflow")]
)
def test_models_whose_modules_are_named_like_ours_are_added_and_score(
    system: System, project: Path, name: str, source: str, permission: str
) -> None:
    names = () if permission == "mlflow" else ("--inputs", "a,b,c,d")
    scorebeat(system, project, "models", "add", source, "--name", name, "--allow-code", permission, *names)
    job = system.job(name, rows=40)
    ((signature,),) = system.query("SELECT signature FROM scorebeat.model_versions WHERE name = :name", name=name)
    (output,) = (output["name"] for output in signature["outputs"])
    system.apply(job.model_copy(update={"model": name}))

    run = system.enqueue(job)

    assert system.until_finished(run) is RunState.SUCCEEDED
    wrong = system.query(
        f"SELECT count(*) FROM {name} AS t LEFT JOIN predictions.{name} AS p USING (id)"
        f' WHERE p."{output}" IS DISTINCT FROM (t.a + t.b + t.c + t.d) * 3.0'
    )
    assert wrong == [(0,)]


@pytest.mark.parametrize(
    "command",
    [
        (str(Path(sys.executable).with_name("celery")), "-A", "scorebeat.worker", "inspect", "ping"),
        (sys.executable, "-m", "scorebeat.worker", "inspect", "ping"),
        (sys.executable, "-m", "scorebeat.ops.cli", "check"),
    ],
    ids=["celery", "our module", "python -m"],
)
@pytest.mark.usefixtures("workers")
def test_every_way_to_start_takes_libraries_from_where_they_are_installed(
    system: System, project: Path, command: tuple[str, ...]
) -> None:
    done = subprocess.run(
        command, cwd=project, env=environment(system.settings), capture_output=True, text=True, check=False
    )

    assert "of the user was imported" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_loaded_under_two_names() -> None:
    """Also in the repository's folder, where each room can be imported by its bare name."""
    code = (
        "import sys, pkgutil, importlib, scorebeat;"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(scorebeat.__path__, 'scorebeat.')"
        " if 'migrations' not in m.name and '__main__' not in m.name and 'examples' not in m.name"
        " and m.name != 'scorebeat.worker.celery' and 'xgboost' not in m.name];"
        "ours = {p.name for p in __import__('pathlib').Path(scorebeat.__path__[0]).iterdir()};"
        "print(sorted({n.partition('.')[0] for n in sys.modules} & ours))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stderr

"""LightGBM models in .lgb and .txt files: their inputs and outputs, and scoring of Arrow columns on one thread."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa

from scorebeat.core.errors import ModelError, StoreError
from scorebeat.models.artifact import Artifact
from scorebeat.models.contract import AddOptions, Described, Model, Signature
from scorebeat.models.formats.boosters.boosters import Booster, describe, model_of, own_columns, try_to_open
from scorebeat.models.formats.registry import copy_file
from scorebeat.models.formats.shared.booster_columns import UNNAMED, trained_columns
from scorebeat.models.inputs.matrix import Matrix
from scorebeat.models.inputs.own_rows import OwnRows
from scorebeat.models.inputs.samples import NOTHING_KNOWN, Known

NAME = "lightgbm"
DEVICES = ("cpu",)
READS = frozenset({"inputs", "outputs", "classes"})
take = copy_file
_FIRST, _LAST = b"tree", b"\nend of trees"
_OPENING = """
import sys, numpy, lightgbm
try:
    one = lightgbm.Booster(model_file=sys.argv[1])
    one.predict(numpy.zeros((1, one.num_feature())), num_threads=1)
except Exception as error:
    print(str(error).partition("\\n")[0])
    sys.exit(1)
"""


def inspect(path: Path, add_options: AddOptions) -> Described:
    """The inputs and outputs of the model in this file. Inputs are float64; their names are those of training, else
    those of --inputs, else there is one array called `features`.

    Raises StoreError for a model that cannot be used, ModelError for a file that cannot be read.
    """
    text, library = path.read_bytes(), f"LightGBM {lightgbm.__version__}"
    if text.split(maxsplit=1)[:1] != [_FIRST]:
        raise StoreError(
            f"{path.name} is not a LightGBM model, whose first line is `tree`: write one with "
            "Booster.save_model('model.lgb')"
        )
    if _LAST not in text:  # LightGBM would read the trees that are there
        raise ModelError(f"{path.name} cannot be read by {library}: it is damaged, for its trees have no end")
    try_to_open(_OPENING, path, library)
    model = _open(path)
    return describe(_booster(model), add_options, path.name)


def load(artifact: Artifact, device: str) -> Model:
    """The model, ready to score. Raises ModelError if the file is damaged."""
    del device
    return model_of(_booster(_open(artifact.path)), artifact)


def known_values(model: Model, signature: Signature) -> Known:
    """As `Format.known_values`: none, because trees take any number."""
    del model, signature
    return NOTHING_KNOWN


def own_predict(artifact: Artifact, own: OwnRows) -> Sequence[Any] | None:
    """As `Format.own_predict`: Booster.predict, over a DataFrame with the names of training if there are any."""
    model = _open(artifact.path)
    names = model.feature_name()
    is_named = own.table is not None and not all(map(UNNAMED.fullmatch, names))
    return own_columns(_booster(model), model.predict(own.frame(names) if is_named else own.matrix()), artifact)


def _open(path: Path) -> Any:
    try:
        return lightgbm.Booster(model_file=path)
    except lightgbm.basic.LightGBMError as error:
        raise ModelError(f"{path.name} cannot be read by LightGBM {lightgbm.__version__}: {error}") from error


def _booster(model: Any) -> Booster:
    head = model.dump_model(num_iteration=1)
    objective = str(head.get("objective", "")).partition(" ")[0]
    classes = {"binary": 2, "multiclass": head["num_class"], "multiclassova": head["num_class"]}.get(objective, 0)

    def score(x: Any) -> Matrix:
        found: Matrix = model.predict(x, num_threads=1)  # a worker process has one core
        return found

    return Booster(
        trained_columns(model),
        model.num_feature(),
        int(classes),
        pa.float64(),
        np.float64,
        score,
        thread_safe=False,  # predict() stores the number of trees to use in the booster itself
    )

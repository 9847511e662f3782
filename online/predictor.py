"""Predictions asked for now, by the same versions of models that score batches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from scorebeat.core.errors import UnknownName, UsageError, near
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import model_versions
from scorebeat.db.ledger.model_versions import Version
from scorebeat.models.contract import Model, Signature
from scorebeat.models.formats import registry
from scorebeat.models.store import store
from scorebeat.online import plain_rows
from scorebeat.online.slots import Turns
from scorebeat.producer.context import Producer

if TYPE_CHECKING:
    import pyarrow as pa

MODELS_KEPT = 4


@dataclass
class Predictor:
    """Loads a version when it is first asked for and keeps the last few; may be used by several threads.

    They take turns in a model that is not `thread_safe`. One in which a prediction hangs is given up with its thread,
    and loaded anew for the others.
    """

    p: Producer
    _models: dict[tuple[str, int], Turns] = field(default_factory=dict)
    _loading: Lock = field(default_factory=Lock)
    _touching: Lock = field(default_factory=Lock)
    """Held for moments only, where `_loading` is held for a download."""

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One dict of outputs a row, by `iris`, which is the version published now, or by `iris/3`.

        Raises UnknownName, ModelError, ServiceDown where the model is not free in time, and what
        `online.plain_rows.predict` does.
        """
        with self._turn(model, self.p.settings.row_time_limit) as (loaded, signature):
            return plain_rows.predict(loaded, signature, rows)

    def predict_columns(self, model: str, rows: "pa.RecordBatch") -> "pa.RecordBatch":
        """The outputs of columns, in the rows' order; as `predict`, with the time of a whole batch."""
        with self._turn(model, self.p.settings.batch_time_limit) as (loaded, signature):
            return plain_rows.predict_columns(loaded, signature, rows)

    @contextmanager
    def _turn(self, model: str, seconds: float) -> Iterator[tuple[Model, Signature]]:
        """The model, for the block alone. Raises ServiceDown where others do not leave it within so long."""
        version = self.version(model)
        with self._loaded(version).turn(seconds, str(version)) as loaded:
            yield loaded, Signature.from_json(version.signature)

    def version(self, model: str) -> Version:
        """The version that `model` names now. Raises UnknownName with the near names."""
        name, slash, number = model.partition("/")
        if slash and not (number.isascii() and number.isdecimal() and len(number) <= 9):
            raise UsageError(f"{model!r} is neither a model nor a version of one; expected one such as iris or iris/4")
        with reachable(self.p.url), self.p.engine.connect() as connection:
            if slash:
                return model_versions.get(connection, name, int(number))
            found = model_versions.published(connection, name)
            known = sorted({v.name for v in model_versions.listing(connection)})
        if found is None and name in known:
            raise UnknownName(
                f"no version of model {name!r} is published: ask for one by its number, such as {name}/1, or publish "
                f"it with `scorebeat publish {name}/1`"
            )
        if found is None:
            raise UnknownName(f"there is no model {name!r}.{near(name, known)} Add it with `scorebeat models add`.")
        return found

    def _loaded(self, version: Version) -> Turns:
        """One is loaded at a time, as two may not fit; what is loaded already waits for none."""
        key = (version.name, version.version)
        model = self._kept(key)
        if model is not None:
            return model
        with self._loading:
            return self._kept(key) or self._keep(key, Turns(self._load(version)))

    def _kept(self, key: tuple[str, int]) -> Turns | None:
        with self._touching:
            model = self._models.pop(key, None)
            if model is None or model.hangs(self.p.settings.row_time_limit):
                return None
            self._models[key] = model  # the last that was used
            return model

    def _keep(self, key: tuple[str, int], model: Turns) -> Turns:
        with self._touching:
            while len(self._models) >= MODELS_KEPT:
                self._models.pop(next(iter(self._models)))
            self._models[key] = model
        return model

    def _load(self, version: Version) -> Model:
        place, cache = self.p.settings.artifacts, self.p.settings.cache
        artifact = store.open_artifact(place, version.name, version.version, version.digest, cache=cache)
        return registry.load(artifact)

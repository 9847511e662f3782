"""Predictions while a caller waits, by the same model versions that score batches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from scorebeat.core.errors import ServiceDown, UnknownName, near
from scorebeat.core.identifiers import parse_model
from scorebeat.db.connect.engine import reachable
from scorebeat.db.ledger import model_versions
from scorebeat.db.ledger.model_versions import Version
from scorebeat.models.contract import Model, Signature
from scorebeat.models.formats import registry
from scorebeat.models.store import store
from scorebeat.online import plain_rows
from scorebeat.producer.context import Producer

if TYPE_CHECKING:
    import pyarrow as pa

MODELS_KEPT = 4


@dataclass
class Turns:
    """A loaded model. A Python class may keep buffers in its object, and two threads would mix their rows."""

    model: Model
    _lock: Lock = field(default_factory=Lock)
    _since: float = inf
    """The time when the thread that is in the model entered it; infinity if no thread is in it."""

    @contextmanager
    def turn(self, seconds: float, name: str) -> Iterator[Model]:
        """The model, for the block alone. Raises ServiceDown if it is not free within so many seconds."""
        if getattr(self.model, "thread_safe", False):
            yield self.model
            return
        if not self._lock.acquire(timeout=seconds):
            raise ServiceDown(f"model {name} makes one prediction at a time, and was not free within {seconds:g} s")
        self._since = monotonic()
        try:
            yield self.model
        finally:
            self._since = inf
            self._lock.release()

    def hangs(self, seconds: float) -> bool:
        """Whether a thread has been in the model for longer than that, so that no thread may wait for it."""
        return monotonic() - self._since > seconds


@dataclass
class Predictor:
    """Loads a version at its first use and keeps the last few; several threads may use it.

    They take turns in a model that is not `thread_safe`. If a prediction hangs, its model and thread are abandoned,
    and the model is loaded again for the others.
    """

    producer: Producer
    _models: dict[tuple[str, int], Turns] = field(default_factory=dict)
    _loading: Lock = field(default_factory=Lock)
    _touching: Lock = field(default_factory=Lock)
    """Held for a very short time only, while `_loading` is held during a download."""

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One dict of outputs a row, by the published version of the model `iris`, or by the version `iris/3`.

        Raises UnknownName, ModelError, ServiceDown if the model is not free in time, and what
        `online.plain_rows.predict` does.
        """
        with self._turn(self.version(model), self.producer.settings.row_time_limit) as (loaded, signature):
            return plain_rows.predict(loaded, signature, rows)

    def predict_columns(self, version: Version, rows: "pa.RecordBatch") -> "pa.RecordBatch":
        """The outputs for columns, in the rows' order; as `predict`, with the time limit of a whole batch."""
        with self._turn(version, self.producer.settings.batch_time_limit) as (loaded, signature):
            return plain_rows.predict_columns(loaded, signature, rows)

    @contextmanager
    def _turn(self, version: Version, seconds: float) -> Iterator[tuple[Model, Signature]]:
        """The model, for the block alone. Raises ServiceDown if it is not free within so many seconds."""
        with self._loaded(version).turn(seconds, str(version)) as loaded:
            yield loaded, Signature.from_json(version.signature)

    def version(self, model: str) -> Version:
        """The version that `model` names now. Raises UnknownName with similar names."""
        name, number = parse_model(model)
        with reachable(self.producer.url), self.producer.engine.connect() as connection:
            if number is not None:
                return model_versions.get(connection, name, number)
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
        """The version's model. One is loaded at a time, as two may not fit; a loaded model waits for no other."""
        key = (version.name, version.version)
        model = self._kept(key)
        if model is not None:
            return model
        with self._loading:
            model = self._kept(key)
            if model is None:
                model = Turns(self.load(version))
                with self._touching:
                    while len(self._models) >= MODELS_KEPT:
                        self._models.pop(next(iter(self._models)))
                    self._models[key] = model
            return model

    def _kept(self, key: tuple[str, int]) -> Turns | None:
        with self._touching:
            model = self._models.pop(key, None)
            if model is None or model.hangs(self.producer.settings.row_time_limit):
                return None
            self._models[key] = model  # moved to the end: the last one used
            return model

    def load(self, version: Version) -> Model:
        """The version's model, read from the store; it is not kept."""
        location, cache = self.producer.settings.artifacts, self.producer.settings.cache
        artifact = store.open_artifact(location, version.name, version.version, version.digest, cache=cache)
        return registry.load(artifact)

"""What one worker process keeps between batches: connections, the runs it knows, the models it loaded."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import adbc_driver_manager
from adbc_driver_manager.dbapi import Connection as DataConnection
from sqlalchemy import Engine

from core.identity import worker_name
from core.settings import Settings
from db import pending, prediction_sets, runs, source, versions
from db.engine import data_connection, is_alive, make_engine
from db.prediction_sets import PredictionSet
from db.runs import Run
from db.source import Source
from models import registry, store
from models.binding import Binding, bind
from models.contract import Model, Signature

MODELS_KEPT = 2
"""The published version and a candidate; older ones give their memory back."""
RUNS_KEPT = 16


@dataclass(frozen=True)
class Job:
    """What a process needs to know of a run to score its batches."""

    run: Run
    source: Source
    target: PredictionSet
    binding: Binding
    version: versions.Version


@dataclass
class Runtime:
    """Everything is opened when first used, which is after the fork."""

    settings: Settings
    name: str = field(default_factory=worker_name)
    _runs: dict[int, Job] = field(default_factory=dict)
    _models: dict[tuple[str, int], Model] = field(default_factory=dict)
    _data: DataConnection | None = None

    @cached_property
    def url(self) -> str:
        return self.settings.database()

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.url, f"scorebeat {self.name}", pool_size=1)

    @property
    def data(self) -> DataConnection:
        """The connection that rows move over."""
        if self._data is None:
            self._data = data_connection(self.url, f"scorebeat {self.name} data")
        return self._data

    def drop_stale_data(self) -> None:
        """A connection that the server closed between two batches would cost the next one an attempt."""
        if self._data is not None and not is_alive(self._data):
            self.drop_data()

    def drop_data(self) -> None:
        """Give up a connection that may be broken; the next use opens another."""
        broken, self._data = self._data, None
        if broken is not None:
            with suppress(adbc_driver_manager.Error):  # it is broken: nothing more can be done with it
                broken.close()

    def job(self, run_id: int) -> Job:
        """The run's settings, query and target, read once a process."""
        if run_id not in self._runs:
            while len(self._runs) >= RUNS_KEPT:
                self._runs.pop(next(iter(self._runs)))
            self._runs[run_id] = self._read_job(run_id)
        return self._runs[run_id]

    def model(self, version: versions.Version) -> Model:
        """The loaded model; its file must have the digest that the ledger recorded."""
        key = (version.name, version.version)
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                self._models.pop(next(iter(self._models)))
            artifact = store.open_artifact(self.settings.artifacts, *key, version.digest)
            self._models[key] = registry.load(artifact)
        return self._models[key]

    def has_quarantine(self, set_id: int) -> bool:
        with self.engine.connect() as connection:
            return pending.has_quarantine(connection, set_id)

    def close(self) -> None:
        self.drop_data()
        if "engine" in self.__dict__:
            self.engine.dispose()

    def _read_job(self, run_id: int) -> Job:
        with self.engine.connect() as connection:
            run = runs.get(connection, run_id)
            version = versions.get(connection, run.model, run.model_version)
            target = prediction_sets.get(connection, run.prediction_set_id)
            found = source.read_columns(connection, run.job)
        binding = bind(Signature.from_json(version.signature), found.columns)
        return Job(run, found, target, binding, version)

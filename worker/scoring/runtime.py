"""What one worker process keeps between batches: connections, the runs it knows, the models it loaded."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import adbc_driver_manager
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.core.descriptors import Sentinel
from scorebeat.core.errors import one_line
from scorebeat.core.events import emit
from scorebeat.core.identity import worker_name
from scorebeat.core.settings import Settings
from scorebeat.db.batch_io import columns
from scorebeat.db.connect import locks
from scorebeat.db.connect.engine import data_connection, make_engine
from scorebeat.db.ledger import model_versions, runs
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions import prediction_sets, stored_keys, table_types
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.predictions.table_types import TableTypes
from scorebeat.db.records import device_limits
from scorebeat.db.source import pending, session_leftovers, source
from scorebeat.db.source.source import Source
from scorebeat.models.contract import Signature
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import Binding, bind
from scorebeat.models.scoring.micro_batches import Around, MicroBatches
from scorebeat.models.scoring.surroundings import Surroundings
from scorebeat.models.store import store
from scorebeat.worker.lifecycle import device, lost_descriptors
from scorebeat.worker.lifecycle.device import Device

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection as DataConnection

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
    version: model_versions.Version
    may_leave: bool
    """Its query may leave in its session what nothing undoes."""


@dataclass
class Runtime:
    """Everything is opened when first used, which is after the fork."""

    settings: Settings
    name: str = field(default_factory=worker_name)
    _runs: dict[int, Job] = field(default_factory=dict)
    _models: dict[tuple[str, int], MicroBatches] = field(default_factory=dict)
    _types: dict[str, TableTypes] = field(default_factory=dict)
    unloadable: dict[str, float] = field(default_factory=dict)
    """Models that this process could not load, and when, by `time.monotonic()`, it tries again."""
    left_to_others: int = 0
    """Batches that it gave back for that, one after the other."""
    with_long_texts: set[int] = field(default_factory=set)
    """Runs with a text that was cut when it was read up to a length: theirs are read whole."""
    _data: "DataConnection | None" = None
    _may_hold: bool = False
    """Something that a query left may be in the session of `_data`."""

    @cached_property
    def url(self) -> str:
        return self.settings.database()

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.url, f"scorebeat {self.name}", pool_size=1)

    @property
    def data(self) -> "DataConnection":
        """The connection that rows move over."""
        if self._data is None:
            self._data = data_connection(self.url, f"scorebeat {self.name} data")
        return self._data

    def begin_query(self, job: Job) -> "DataConnection":
        """The connection, in a transaction for the job's query.

        One that the server closed between two batches, or that takes no writes, would cost the batch an attempt: the
        next takes its place. So it does where another query may have left something that this one would see.
        """
        if not self._begin_again():
            self.drop_data()
            columns.begin_query(self.data)
        self._may_hold = job.may_leave
        return self.data

    def _begin_again(self) -> bool:
        """In the session that is there."""
        with suppress(adbc_driver_manager.Error):
            return self._data is not None and not self._may_hold and columns.begin_query(self._data)
        return False

    def drop_data(self) -> None:
        """Give up a connection that may be broken; the next use opens another."""
        broken, self._data, self._may_hold = self._data, None, False
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

    def forget_job(self, run_id: int) -> None:
        """Its query gives other types than when it was read: it is read anew when it is asked for next."""
        self._runs.pop(run_id, None)

    def types(self, target: PredictionSet) -> TableTypes:
        """Of the prediction table's columns, read once a process."""
        if target.table not in self._types:
            while len(self._types) >= RUNS_KEPT:
                self._types.pop(next(iter(self._types)))
            self._types[target.table] = table_types.table_types(self.data, target)
        return self._types[target.table]

    def forget_types(self, target: PredictionSet) -> None:
        """They changed: they are read anew when they are asked for next."""
        self._types.pop(target.table, None)

    def model(self, version: model_versions.Version) -> MicroBatches:
        """The loaded model; its file must have the digest that the ledger recorded."""
        key = (version.name, version.version)
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                self._models.pop(next(iter(self._models)))
            self._models[key] = self._load(version)
        return self._models[key]

    def _load(self, version: model_versions.Version) -> MicroBatches:
        """On this worker's device if the model knows it, with what its processes learned of how much fits."""
        place, cache = self.settings.artifacts, self.settings.cache
        artifact = store.open_artifact(place, version.name, version.version, version.digest, cache=cache)
        placed = device.current().for_model(artifact.devices)
        around = self._around(Surroundings(str(version)))
        with around():
            model = registry.load(artifact, placed.kind)
        with self.engine.connect() as connection:
            limit = device_limits.known(connection, version.name, version.version, placed.model)
        emit("model.loaded", model=str(version), device=placed.name, hardware=placed.model, micro_batch_rows=limit)
        return MicroBatches(model, limit, partial(self._learn, version, placed), around)

    def _around(self, surroundings: Surroundings) -> Around:
        """Within which the version's code is called."""

        @contextmanager
        def around() -> Iterator[None]:
            with lost_descriptors.required(self._sentinel), surroundings.entered():
                yield

        return around

    @cached_property
    def _sentinel(self) -> Sentinel:
        return Sentinel()

    def _learn(self, version: model_versions.Version, placed: Device, rows: int) -> None:
        """The next process starts with what fitted here. What cannot be written is found out again."""
        emit("device.full", model=str(version), device=placed.name, hardware=placed.model, micro_batch_rows=rows)
        try:
            with self.engine.begin() as connection:
                device_limits.learn(connection, version.name, version.version, placed.model, rows)
        except DBAPIError as error:
            emit("device.limit_not_recorded", model=str(version), reason=one_line(error.orig))

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
            version = model_versions.get(connection, run.model, run.model_version)
            target = prediction_sets.get(connection, run.prediction_set_id)
            locks.wait_at_most(connection, locks.IN_A_WORKER)
            found = source.read_columns(connection, run.job, run.values)
            stored_keys.require_room(connection, found, target)
            may_leave = session_leftovers.may_leave(connection, found, run.selection.where)
        binding = bind(Signature.from_json(version.signature), found.columns)
        return Job(run, found, target, binding, version, may_leave)

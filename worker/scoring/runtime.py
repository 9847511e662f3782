"""What one worker process keeps between batches: its connections, runs and loaded models."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import adbc_driver_manager
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import SignatureError, one_line
from scorebeat.core.events import emit
from scorebeat.core.process.identity import worker_name
from scorebeat.core.settings import Settings
from scorebeat.db.batch_io import columns
from scorebeat.db.connect import locks
from scorebeat.db.connect.engine import data_connection, make_engine
from scorebeat.db.ledger import model_versions, runs
from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions import generation_keys, prediction_sets, stored_keys, table_types
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.predictions.table_types import TableTypes
from scorebeat.db.records import device_limits
from scorebeat.db.source import session_leftovers, source
from scorebeat.db.source.selection import pending, snapshot
from scorebeat.db.source.source import Source
from scorebeat.models.contract import Signature
from scorebeat.models.engines import NATIVE
from scorebeat.models.formats import registry
from scorebeat.models.inputs.binding import Binding, bind
from scorebeat.models.scoring.micro_batches import MicroBatches
from scorebeat.models.scoring.surroundings import Surroundings
from scorebeat.models.store import store
from scorebeat.models.trial import golden
from scorebeat.worker.lifecycle.devices import device
from scorebeat.worker.lifecycle.devices.device import Device
from scorebeat.worker.scoring import lost_descriptors

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection as DataConnection

MODELS_KEPT = 2
"""The published version and a candidate; the memory of older ones is freed."""
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
    """Whether its query may leave something in its session that nothing undoes."""


@dataclass
class Runtime:
    """The state of one worker process. Everything is opened at first use, which is after the fork."""

    settings: Settings
    name: str = field(default_factory=worker_name)
    _runs: dict[int, Job] = field(default_factory=dict)
    _models: dict[tuple[str, int], MicroBatches] = field(default_factory=dict)
    _types: dict[str, TableTypes] = field(default_factory=dict)
    _keyed: set[int] = field(default_factory=set)
    """Generations that were opened without a key, and have one."""
    golden_rows: dict[str, int] = field(default_factory=dict)
    """Models that were loaded, each with the number of golden rows that it returned as it should."""
    unloadable: dict[str, float] = field(default_factory=dict)
    """Models that this process could not load, each with the `time.monotonic()` of the next try."""
    left_to_others: int = 0
    """Batches in sequence that it left to other workers for that reason."""
    with_long_texts: set[int] = field(default_factory=set)
    """Runs with a text that was cut when it was read up to a length: their texts are read whole."""
    without_value: set[int] = field(default_factory=set)
    """Runs of which rows without a value in the `changed_at` column were seen, and reported."""
    without_profile: dict[int, str] = field(default_factory=dict)
    """Runs whose profile failed, which was reported, and why."""
    _data: "DataConnection | None" = None
    _may_hold: bool = False
    """Whether the session of `_data` may hold something that a query left."""

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

        A connection that the server closed between two batches, or that takes no writes, would cost the batch an
        attempt, so a new one replaces it. The same is done if another query may have left something in the session.
        """
        began = False
        if self._data is not None and not self._may_hold:
            with suppress(adbc_driver_manager.Error):
                began = columns.begin_query(self._data)
        if not began:
            self.drop_data()
            columns.begin_query(self.data)
        self._may_hold = job.may_leave
        return self.data

    def drop_data(self) -> None:
        """Close a connection that may be broken; the next use opens another."""
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
        """Forget a run whose query returns other types than when it was read; the next use reads it again."""
        self._runs.pop(run_id, None)

    def types(self, target: PredictionSet) -> TableTypes:
        """The types of the prediction table's columns, read once a process."""
        if target.table not in self._types:
            while len(self._types) >= RUNS_KEPT:
                self._types.pop(next(iter(self._types)))
            self._types[target.table] = table_types.table_types(self.data, target)
        return self._types[target.table]

    def forget_types(self, target: PredictionSet) -> None:
        """Forget types that changed; the next use reads them again."""
        self._types.pop(target.table, None)

    def require_key(self, target: PredictionSet) -> None:
        """Build the primary key of a generation that was opened without; to be called before rows are looked up."""
        if target.unbuilt_key is None or target.id in self._keyed:
            return
        with self.engine.begin() as connection:
            generation_keys.build(connection, target)
        self._keyed.add(target.id)
        self.forget_types(target)

    def model(self, version: model_versions.Version) -> MicroBatches:
        """The loaded model; its file must have the digest that the ledger recorded."""
        key = (version.name, version.version)
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                self._models.pop(next(iter(self._models)))
            self._models[key] = self._load(version)
        return self._models[key]

    def forget_model(self, version: model_versions.Version) -> None:
        """Free the model, if it is loaded; the next use loads it anew."""
        self._models.pop((version.name, version.version), None)

    def _load(self, version: model_versions.Version) -> MicroBatches:
        """Load it on this worker's device if it supports that, with the limit of rows that earlier processes found."""
        location, cache = self.settings.artifacts, self.settings.cache
        artifact = store.open_artifact(location, version.name, version.version, version.digest, cache=cache)
        chosen = device.current().for_model(artifact.devices)
        around = partial(lost_descriptors.entered, Surroundings(str(version)))
        with around():
            model = registry.load(artifact, chosen.kind, version.engine, cache)
            self.golden_rows[str(version)] = golden.require_agreement(artifact, model)
        with self.engine.connect() as connection:
            limit = device_limits.known(connection, version.name, version.version, chosen.model)
        emit(
            "model.loaded",
            model=str(version),
            engine=getattr(model, "engine", NATIVE),
            device=chosen.name,
            hardware=chosen.model,
            micro_batch_rows=limit,
        )
        return MicroBatches(model, limit, partial(self._learn, version, chosen), around)

    def _learn(self, version: model_versions.Version, chosen: Device, rows: int) -> None:
        """Record how many rows fitted, for the next process. If that fails, the next process finds it out itself."""
        emit("device.full", model=str(version), device=chosen.name, hardware=chosen.model, micro_batch_rows=rows)
        try:
            with self.engine.begin() as connection:
                device_limits.learn(connection, version.name, version.version, chosen.model, rows)
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
            found = (
                source.read_columns(connection, run.job, run.values)
                if run.snapshot_rows is None
                else snapshot.source_of(connection, run.job, run.id)
            )
            stored_keys.require_room(connection, found, target)
            may_leave = session_leftovers.may_leave(connection, found, run.where_to_read)
        try:
            binding = bind(Signature.from_json(version.signature), found.columns)
        except SignatureError:
            if run.snapshot_rows is None:
                raise
            raise snapshot.lost(run.job, run.id, snapshot.OTHER_COLUMNS) from None
        return Job(run, found, target, binding, version, may_leave)

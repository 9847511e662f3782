"""The models of an installation: adding versions, comparing and publishing them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scorebeat.client.own_errors import with_own_errors
from scorebeat.client.values import (
    path_of,
    paths_of,
    require_flags,
    require_texts,
    require_texts_or_none,
    texts_of,
    version_text,
)
from scorebeat.core.errors import UsageError
from scorebeat.core.identifiers import version_of
from scorebeat.db.ledger import model_versions as versions
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.reports import results
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.versions import publish as publishing
from scorebeat.producer.versions.comparison import VersionComparison, compare
from scorebeat.producer.versions.publish import Added

if TYPE_CHECKING:
    from scorebeat.models.inputs.samples import Sample


@with_own_errors
class Models:
    """`client.models`."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def versions(self) -> list[Version]:
        """All versions, by model and number."""
        with results.reading(self._producer.engine) as connection:
            return versions.listing(connection)

    def add(  # noqa: PLR0913 -- each is a keyword
        self,
        source: str | Path,
        name: str,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        classes: Sequence[str] = (),
        trust: Sequence[str] = (),
        allow: Sequence[str] = (),
        files: Sequence[str | Path] = (),
        sample: str | Path | None = None,
        sample_job: str | None = None,
        reference: str | Path | None = None,
        reference_query: str | None = None,
        golden: str | Path | None = None,
        engine: str | None = None,
        allow_unsteady: bool = False,
    ) -> Added:
        """Store a model file, a folder or `module:Class` as the next version of `name`, after a trial.

        The options are those of `scorebeat models add`; without `engine` the fastest one is used. `allow` names formats
        that run code when they are opened: `pickle` or `mlflow`. A model's first version is published if it scored
        rows. If the newest version has the same files, nothing is added and that version is returned.

        Raises StoreError with the reason if the source cannot become a model, ModelError, UsageError.
        """
        from scorebeat.models.contract import AddOptions  # noqa: PLC0415 -- loads Arrow
        from scorebeat.models.engines import ENGINES  # noqa: PLC0415 -- likewise
        from scorebeat.models.inputs.sample_file import MOST, SampleFile  # noqa: PLC0415 -- likewise
        from scorebeat.models.trial.reference import MOST as MOST_OF_REFERENCE  # noqa: PLC0415 -- likewise
        from scorebeat.producer.versions.sample_job import SampleJob, SampleQuery  # noqa: PLC0415 -- likewise

        require_texts(name=name)
        require_texts_or_none(sample_job=sample_job, reference_query=reference_query, engine=engine)
        require_flags(allow_unsteady=allow_unsteady)
        if engine is not None and engine not in ENGINES:
            raise UsageError(f"{engine!r} is no engine: expected {' or '.join(ENGINES)}, or None for the fastest")
        if sample is not None and sample_job is not None:
            raise UsageError("a model is tried on one sample: give `sample` or `sample_job`")
        if reference is not None and reference_query is not None:
            raise UsageError("a model has one reference: give `reference` or `reference_query`")
        training: Sample | None = None
        if reference is not None:
            training = SampleFile(path_of("reference", reference), MOST_OF_REFERENCE, "reference")
        elif reference_query is not None:
            training = SampleQuery(self._producer, reference_query, MOST_OF_REFERENCE)
        rows: Sample | None = None
        if sample is not None:
            rows = SampleFile(path_of("sample", sample))
        elif sample_job is not None:
            rows = SampleJob(self._producer, sample_job, MOST)
        options = AddOptions(
            texts_of("inputs", inputs),
            texts_of("outputs", outputs),
            texts_of("classes", classes),
            frozenset(texts_of("trust", trust)),
            frozenset(texts_of("allow", allow)),
            paths_of("files", files),
            reference=training,
            golden=None if golden is None else path_of("golden", golden),
            engine=engine or "",
            unsteady=allow_unsteady,
        )
        if not isinstance(source, str):  # `module:Class` is no path
            source = path_of("source", source)
        return publishing.add(self._producer, source, name, whoami(), options, rows)

    def compare(self, version: str | Version, with_version: str | Version | None = None) -> list[VersionComparison]:
        """Compare two versions, one entry for each job that uses the model; None is the published version.

        Raises UnknownName, or UsageError if there is nothing to compare.
        """
        name, number = version_of(version_text("version", version))
        other = None if with_version is None else version_of(version_text("with_version", with_version))
        if other is not None and other[0] != name:
            raise UsageError(f"{with_version} is another model; expected a version of {name}")
        return compare(self._producer, name, number, other[1] if other is not None else None)

    def publish(self, version: str | Version, *, force: bool = False) -> list[str]:
        """Show a version such as `iris/4` to readers, and score with it from now on. Returns the jobs that show it.

        Raises UsageError with the reasons if readers would lose by it; `force` publishes it anyway.
        """
        require_flags(force=force)
        name, number = version_of(version_text("version", version))
        if force:
            return publishing.publish_anyway(self._producer, name, number, whoami())
        return publishing.publish(self._producer, name, number, whoami())

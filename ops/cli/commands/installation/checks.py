"""The checks of `scorebeat check`, one finding each. A problem never hides the findings after it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from scorebeat.broker.app import make_app
from scorebeat.broker.installation_app import UNREAD_PREFIX
from scorebeat.broker.neighbours import neighbours, responding
from scorebeat.broker.permissions import require_rights
from scorebeat.broker.send import require_broker
from scorebeat.core.errors import ScorebeatError, ServiceDown
from scorebeat.core.jobs.job import Job
from scorebeat.core.jobs.jobs_file import read_files
from scorebeat.core.process.paths import shown
from scorebeat.core.table_names import WORK
from scorebeat.core.urls import exposed, redact
from scorebeat.db.closing import old_snapshots
from scorebeat.db.connect import pooler, read_only, user_sql
from scorebeat.db.connect.engine import require_version
from scorebeat.db.ledger import jobs, model_versions
from scorebeat.db.ledger.evidence import quality
from scorebeat.db.ledger.jobs import JobRow
from scorebeat.db.ledger.model_versions import Version
from scorebeat.db.predictions import prediction_sets, stored_keys
from scorebeat.db.processes import unloadable, workers
from scorebeat.db.reports import status
from scorebeat.db.reports.forecasts import coming_days
from scorebeat.db.reports.forecasts.coming_days import QueueDay
from scorebeat.db.reports.pages import job_lines
from scorebeat.db.schema import installation, ownership, revisions, roles
from scorebeat.db.source import row_security
from scorebeat.db.source.selection import planning_cursor, snapshot
from scorebeat.models.store import store
from scorebeat.ops.cli.context import unmigrated
from scorebeat.producer.context import Producer
from scorebeat.producer.control.notices.unserved import no_control, no_worker
from scorebeat.producer.planning import begin_at, explanation
from scorebeat.producer.requests import apply as applying
from scorebeat.producer.requests.preview import require_good_keys

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    verdict: str
    """ok, warning or problem."""
    text: str


def check_all() -> list[Finding]:
    """All findings, in the order in which a person would fix them. Raises only if the settings cannot be read."""
    with unmigrated() as producer:
        urls = redact(f"database {producer.url}, broker {producer.settings.broker_url or 'none'}")
        findings = [Finding("settings", "ok", urls)]
        findings.append(_try("database", lambda: _database(producer)))
        findings += transport("database", producer.url)
        ledger = _try("ledger", lambda: _ledger(producer))
        findings.append(ledger)
        is_usable = ledger.verdict == "ok"
        broker = _try("broker", lambda: _broker(producer, is_usable=is_usable))
        findings.append(broker)
        findings += transport("broker", producer.settings.broker_url or "")
        if is_usable and broker.verdict == "ok":
            try:
                findings.extend(_of_neighbours(producer))
            except ScorebeatError as error:  # after those that it had found
                findings.append(Finding("neighbours", "problem", redact(str(error))))
        if is_usable:
            findings.extend(_of_ledger(producer))
        return findings


def check_job(producer: Producer, name: str) -> Finding:
    """The finding of one job. Raises UnknownName."""
    with producer.engine.connect() as connection:
        job = jobs.get(connection, name).job
    return _try(f"job {name}", lambda: _job(producer, job))


def _of_ledger(producer: Producer) -> Iterator[Finding]:
    yield _try("role", lambda: _role(producer))
    with producer.engine.connect() as connection:
        rows = jobs.listing(connection)
        models = model_versions.listing(connection)
        held = [note for line in job_lines.listing(connection) if (note := line.held_note) is not None]
    yield _try("jobs file", lambda: _file(producer, rows))
    listed = [row.job for row in rows]
    for job in listed:
        yield _try(f"job {job.name}", lambda job=job: _job(producer, job))  # type: ignore[misc]  # bound now, on purpose
    for note in held:
        yield Finding("held run", "warning", note)
    for version in models:
        yield _try(f"model {version}", lambda version=version: _model(producer, version))  # type: ignore[misc]  # as above
    with producer.engine.connect() as connection:
        yield from _workers(connection, listed)
        for queue_day in coming_days.read(connection):
            yield coming_day(queue_day)
        for name, failure in quality.failures(connection).items():
            yield Finding(f"quality of {name}", "warning", failure)
        use = old_snapshots.disk_use(connection)
        if use.tables:
            text = f"{use.tables} in the schema {WORK}, {use.size / 2**20:,.1f} MiB"
            if use.foreign:
                text += f"; {use.foreign} of another role's, which ours cannot drop when no run needs them"
            yield Finding("snapshots", "warning" if use.foreign else "ok", text)


def _try(subject: str, look: Callable[[], str | Finding]) -> Finding:
    try:
        found = look()
    except ScorebeatError as error:
        return Finding(subject, "problem", redact(str(error)))
    except DBAPIError as error:
        return Finding(subject, "problem", f"PostgreSQL refused it: {redact(' '.join(str(error.orig).split()))}")
    return found if isinstance(found, Finding) else Finding(subject, "ok", found)


def _database(producer: Producer) -> str | Finding:
    require_version(producer.engine)
    pooler.require_sessions(producer.engine)
    with producer.engine.connect() as connection:
        takes_no_writes = read_only.why(connection)
        if takes_no_writes is not None:
            return Finding("database", "problem", takes_no_writes)
        return f"PostgreSQL {status.server_version(connection)}"


def _ledger(producer: Producer) -> str:
    with producer.engine.connect() as connection:
        revisions.require_usable(connection)
        return f"revision {revisions.revision(connection)}"


def _role(producer: Producer) -> str | Finding:
    with producer.engine.connect() as connection:
        name, owner, missing = ownership.current(connection), ownership.owner(connection), roles.missing(connection)
        owns = ownership.is_owner(connection)
    if missing:
        return Finding(
            "role",
            "problem",
            f"{name} lacks {len(missing)} rights that runs need: {', '.join(missing[:3])}. Let {owner} run "
            f"`scorebeat migrate --run-role {name}`",
        )
    return f"{name} owns the ledger; what only runs needs less" if owns else f"{name} may run all, and owns nothing"


def _broker(producer: Producer, *, is_usable: bool) -> str | Finding:
    """Check the broker. Without a usable ledger the prefix is unknown, so one that nobody uses is taken."""
    if producer.settings.broker_url is None:  # an embedded database that was started for this command
        return Finding("broker", "warning", "the embedded stack does not run; start it with `scorebeat up`")
    app = producer.app if is_usable else make_app(producer.settings, lambda: UNREAD_PREFIX)
    require_broker(app)
    require_rights(app)
    if not is_usable:
        return "answers"
    return f"answers; our keys there begin with {app.prefix()}"


def _twice(look: Callable[[], _Result]) -> _Result:
    """Try twice: the broker has just answered, and a server may close any connection of a pool."""
    try:
        return look()
    except ServiceDown:
        return look()


def _of_neighbours(producer: Producer) -> Iterator[Finding]:
    with producer.engine.connect() as connection:
        own, nodes, alive = installation.own_prefix(connection), workers.nodes(connection), workers.alive(connection)
    heard = _twice(lambda: responding(producer.app))

    serving = {workers.node(worker["name"]): worker["queues"] for worker in alive}
    reached = heard
    if serving.keys() - heard:
        reached = heard | _twice(lambda: responding(producer.app))  # a busy machine may be slow to answer
    silent = sorted(serving.keys() - reached)
    if silent:
        queues = ", ".join(sorted({queue for node in silent for queue in serving[node]}))
        yield Finding(
            "workers",
            "warning",
            f"{', '.join(silent)} would serve {queues}, and no message from here gets an answer: where they have "
            "another SCOREBEAT_BROKER_URL or SCOREBEAT_BROKER_PREFIX, they take none of our batches. All programs of "
            "one ledger need the same",
        )

    strangers = sorted(heard - nodes)
    if strangers:
        yield Finding(
            "neighbours",
            "problem",
            f"{', '.join(strangers)} answer under our prefix {producer.app.prefix()} and never served this ledger: "
            "another installation has the same prefix, and each takes the other's messages. Is one database a copy of "
            "the other? docs/how-to/own-servers.md gives one of them a prefix of its own",
        )
    for neighbour in _twice(lambda: neighbours(producer.app)) or []:
        if neighbour.prefix.startswith(UNREAD_PREFIX):
            continue
        if neighbour.prefix == own:
            text = f"{neighbour}: programs of this ledger without SCOREBEAT_BROKER_PREFIX; all need the same setting"
            yield Finding("neighbours", "warning" if neighbour.listening else "ok", text)
        elif neighbour.is_older:
            text = (
                f"{neighbour}, of a version without prefixes. If they are this installation's, they stand idle: "
                "replace them (docs/how-to/upgrade.md)"
            )
            yield Finding("neighbours", "warning" if neighbour.listening else "ok", text)
        else:
            yield Finding("neighbours", "ok", f"{neighbour} uses the same database; the prefixes keep us apart")


def transport(service: str, url: str) -> list[Finding]:
    """A warning if somebody between us and the service could read the traffic."""
    why = exposed(url)
    return [Finding(f"{service} TLS", "warning", f"{why} (docs/how-to/tls.md)")] if why else []


def _file(producer: Producer, listed: list[JobRow]) -> str | Finding:
    path = shown(producer.settings.jobs)
    if not path.exists():
        return Finding("jobs file", "warning", f"there is no {path}; jobs come from the database")
    files = read_files(path)
    wanted = {job.name: job for file in files for job in file.jobs}
    owners = {None, *(file.owner for file in files)}
    known = {row.job.name: row.job for row in listed if row.owner in owners or row.job.name in wanted}
    different = sorted(name for name in wanted.keys() | known.keys() if wanted.get(name) != known.get(name))
    if known and not wanted:
        text = f"{path} holds no job, and the database has {', '.join(known)}; these go on, put the file right"
        return Finding("jobs file", "warning", text)
    if different:
        text = f"{path} and the database differ in {', '.join(different)}; `scorebeat apply --dry-run` shows how"
        return Finding("jobs file", "warning", text)
    gone = [name for name, _ in applying.without_file(listed, files)]
    if gone:
        text = f"{path} has no file of {', '.join(gone)} (any more); `scorebeat apply` says whose they are"
        return Finding("jobs file", "warning", text)
    others = len(listed) - len(known)
    return f"{path}, {len(wanted)} jobs, all applied" + f"; {others} of other files" * bool(others)


def _job(producer: Producer, job: Job) -> str | Finding:
    subject = f"job {job.name}"
    opened = begin_at.read_open(producer, job)
    with planning_cursor.reading(producer.engine) as reader:
        found = applying.check(reader, producer.url, job)
        if isinstance(found, str):
            return Finding(subject, "warning", found)
        whole = require_good_keys(reader, found)
        problem = row_security.hides_all(reader) or (snapshot.why_forbidden(reader) if job.snapshot else None)
        if problem is not None:
            return Finding(subject, "problem", problem)

        target = prediction_sets.shown(reader, found.job, found.version.version)
        wider = stored_keys.change(reader, found.source, target) if target is not None else None
        if wider is not None:
            return Finding(subject, "warning", f"{wider}; `scorebeat apply` under the ledger's owner widens it")
        if whole is not None:
            return Finding(subject, "warning", whole)
        if found.source.cursor is not None:
            advice = explanation.explain(reader, found.job, found.source, None, opened).advice
            if advice:
                return Finding(subject, "warning", f"its runs could find their rows sooner: {'; '.join(advice)}")
        return f"the query gives what model {found.version} wants; its SQL runs in {user_sql.settings_in_words(reader)}"


def coming_day(found: QueueDay) -> Finding:
    """Whether a queue's processes can do what is due within a day."""
    subject = f"queue {found.queue}, the coming day"
    by = f"by the last runs of {', '.join(found.jobs)}"
    share = f"{found.day.share_busy:.0%} of what {found.processes} process{'es' * (found.processes != 1)} can do, {by}"
    if found.day.share_busy > 1:
        return Finding(subject, "warning", f"its schedules need {share}: its runs wait longer and longer")
    if not found.day.misses:
        return Finding(subject, "ok", f"its schedules need {share}")
    late = []
    for miss in found.day.misses:
        times = f"due at {miss.due_at:%Y-%m-%d %H:%M} UTC would end at {miss.ends_at:%H:%M} and is needed by"
        why = f"behind {', '.join(miss.behind)}" if miss.behind else "even alone"
        late.append(f"job {miss.job} {times} {miss.needed_at:%H:%M}, {why}")
    return Finding(subject, "warning", f"its schedules need {share}, and {'; '.join(late)}")


def _model(producer: Producer, version: Version) -> str:
    artifacts, cache = producer.settings.artifacts, producer.settings.cache
    store.open_artifact(artifacts, version.name, version.version, version.digest, cache=cache)
    return f"{version.format}, digest {version.digest[:12]}{', published' * version.published}"


def _workers(connection: Connection, listed: list[Job]) -> Iterator[Finding]:
    served = workers.served(connection)
    missing = no_control(served)
    if missing:
        yield Finding("control", "warning", missing)
    else:
        yield Finding("control", "ok", "a control worker is there")
    for queue in sorted({job.queue for job in listed}):
        if queue in served:
            yield Finding(f"queue {queue}", "ok", "a worker listens")
        else:
            yield Finding(f"queue {queue}", "warning", no_worker(queue))
    for failure in unloadable.known(connection):
        yield Finding(f"worker {failure.worker}", "problem", str(failure))

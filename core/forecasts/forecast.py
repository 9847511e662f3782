"""The forecast of a run's end: the work ahead of it and its own, divided by the processes of its queue.

Batches of a queue are sent by rank and number, so a run ends when its own batches and those sent before them are done.
The time for them lies between two bounds of list scheduling (Graham 1969): no less than the work divided by the
processes, and no more than that and the last batch.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from scorebeat.core.forecasts import costs
from scorebeat.core.forecasts.costs import Part, Range
from scorebeat.core.forecasts.evidence import Evidence, History, OpenRun
from scorebeat.core.text.durations import in_words

FEWEST_BATCHES = 2
"""Committed batches from which a run is forecast by itself: the first may have one row, and loads the model."""
LONGEST = 366 * 86_400.0
"""Seconds; a longer time is a measurement under a clock that jumped, or of a queue that stands still."""
FIRM_FROM = 0.05
"""The share of a run's rows from which it is forecast firmly although no earlier run is known."""


@dataclass(frozen=True)
class Ahead:
    """An open run whose batches are sent before those of another."""

    run: int
    job: str
    seconds: float
    """Of the queue's time, likely."""


@dataclass(frozen=True)
class Forecast:
    """When a run ends; without any time if nothing can be known."""

    earliest: datetime | None = None
    likely: datetime | None = None
    latest: datetime | None = None
    unknown: str | None = None
    """Why there is no time; None if there is one."""
    queue: str = ""
    ahead: tuple[Ahead, ...] = ()
    is_firm: bool = False
    """It rests on earlier runs, or on more than the first batches; and no worker may be restarted just now."""
    work: float = 0.0
    """Likely seconds of a process until the end: its own, and what is ahead."""
    longest: float = 0.0
    """Likely seconds that the last batch takes."""
    closing: float = 0.0
    processes: float = 0.0
    """Of the queue: how many work at a time."""
    batches: int = 0
    """Open ones, of the run and ahead."""

    def left(self, now: datetime) -> timedelta | None:
        """Until the likely end; None without one."""
        return max(self.likely - now, timedelta(0)) if self.likely is not None else None

    def passes(self, needed_at: datetime) -> bool:
        """Whether the likely end is later."""
        return self.likely is not None and self.likely > needed_at

    def help(self, evidence: Evidence, needed_at: datetime) -> str:
        """What would bring the end to `needed_at`: more processes, and which runs are ahead."""
        found = [self._more_processes(evidence, (needed_at - evidence.now).total_seconds() - self.closing)]
        found += [
            f"run {one.run} of job {one.job} is ahead on queue {self.queue!r}, with about {in_words(one.seconds)} to go"
            for one in sorted(self.ahead, key=lambda one: -one.seconds)
        ]
        return "; ".join(found)

    def _more_processes(self, evidence: Evidence, seconds: float) -> str:
        there = sum(worker.processes for worker in evidence.serving(self.queue))
        room = seconds - self.longest / 2
        if room <= 0 or self.longest > seconds:
            return f"no more processes would help: a batch takes {in_words(self.longest)}"
        wanted = math.ceil(self.work / room * max(1.0, there / self.processes))
        if wanted > max(self.batches, there):
            return f"no more processes would help: only {self.batches:,} batches are left"
        more = max(1, wanted - there)
        more_of_them = f"{more:,} more process{'es' * (more != 1)} on queue {self.queue!r}"
        return f"{more_of_them} would help, {there + more:,} instead of {there:,}"


def of_open(evidence: Evidence, run: OpenRun) -> Forecast:
    """The forecast of an open run."""
    history = evidence.history(run.job, run.queue)
    rows_left, why = _rows_left(run, history)
    if why is not None:
        return Forecast(unknown=why, queue=run.queue)
    if not rows_left and not run.batches_open and not run.is_planning:
        return _of_closing(evidence, run, history)
    cost = _cost(run, history, rows_left)
    if cost is None:
        little = f"fewer than {FEWEST_BATCHES} of its batches are done, and no earlier run of job {run.job} scored rows"
        if not run.batches_done:
            little = (
                f"none of its batches is done yet, and no earlier run of job {run.job} scored rows on queue "
                f"{run.queue!r}"
            )
        return Forecast(unknown=little, queue=run.queue)
    own = _work(run, cost, rows_left, {worker.name for worker in evidence.serving(run.queue)})
    planned_in = max(0.0, history.planning - run.age) if run.is_planning else 0.0
    begins_in = max(0.0, history.wait - run.age) if run.is_planning and not run.batches_done and not run.claims else 0.0
    last = run.last_open if run.last_open and not run.is_planning else math.inf
    whole = run.rows_done + rows_left
    share = run.rows_done / whole if whole else 1.0
    batch = cost.times(run.rows_open / run.batches_open if run.batches_open else min(rows_left, run.batch_rows))
    times = _Times(begins_in, planned_in, history.closing, batch)
    found = _forecast(evidence, _Place(run.queue, run.rank, last, run.id), own, times)
    batches = found.batches + max(run.batches_open, math.ceil(rows_left / run.batch_rows))
    is_known = bool(history.runs) or share >= FIRM_FROM
    is_counted = not (run.is_planning and run.is_filtered)
    is_firm = is_known and is_counted and not evidence.may_come_back(run.queue)
    return replace(found, batches=batches, is_firm=is_firm)


def of_new(evidence: Evidence, job: str, queue: str, rank: int, batch_rows: int, rows: int) -> Forecast:
    """The forecast of a run of so many rows that would begin now, from earlier runs of its job on the queue."""
    history = evidence.history(job, queue)
    cost = costs.of_history([Part(past.rows, past.busy) for past in history.runs])
    if cost is None:
        return Forecast(unknown=f"no run of job {job} has scored rows on queue {queue!r} yet", queue=queue)
    times = _Times(history.wait, history.planning, history.closing, cost.times(min(rows, batch_rows)))
    found = _forecast(evidence, _Place(queue, rank, math.inf), cost.times(rows), times, history.processes)
    return replace(found, batches=found.batches + math.ceil(rows / batch_rows), is_firm=True)


@dataclass(frozen=True)
class _Place:
    """Where a run stands on its queue."""

    queue: str
    rank: int
    last: float
    """Its last open batch."""
    run: int | None = None
    """None before it is opened."""


@dataclass(frozen=True)
class _Times:
    """Seconds of a run beside those of its work."""

    begins_in: float
    """Until its first claim."""
    planned_in: float
    """Until the end of its plan."""
    closing: float
    """From its last commit to its end."""
    batch: Range
    """Of a process, for one of its batches."""


def _forecast(evidence: Evidence, place: _Place, own: Range, times: _Times, otherwise: int = 0) -> Forecast:
    """`otherwise` is the number of processes if no worker is there."""
    queue = place.queue
    processes = processes_of(evidence, queue) or float(otherwise)
    if not processes:
        return Forecast(unknown=f"no worker listens on queue {queue!r}", queue=queue)
    alive = {worker.name for worker in evidence.serving(queue)}
    work, batches, ahead = own, 0, []
    for other in evidence.runs.values():
        share = _share_ahead(other, place)
        if not share:
            continue
        if other.id not in evidence.costs:
            evidence.costs[other.id] = _cost(other, evidence.history(other.job, queue), other.rows_open)
        cost = evidence.costs[other.id]
        if cost is None:
            why = f"run {other.id} of job {other.job} is ahead on queue {queue!r}, and its speed is not known yet"
            return Forecast(unknown=why, queue=queue)
        its = _work(other, cost, other.rows_open, alive).times(share)
        work, batches = work + its, batches + round(other.batches_open * share)
        ahead.append(Ahead(other.id, other.job, its.likely / processes))
    seconds = _seconds(work, processes, times.batch)
    if not seconds.most < LONGEST:
        return Forecast(unknown="at the speed that was measured it would take more than a year", queue=queue)
    earliest, likely, latest = (
        evidence.now + timedelta(seconds=max(times.begins_in + value, times.planned_in) + times.closing)
        for value in (seconds.least, seconds.likely, seconds.most)
    )
    return Forecast(
        earliest,
        likely,
        latest,
        queue=queue,
        ahead=tuple(ahead),
        work=work.likely,
        longest=times.batch.likely,
        closing=times.closing,
        processes=processes,
        batches=batches,
    )


def processes_of(evidence: Evidence, queue: str) -> float:
    """How many processes of the queue work at a time; 0 if no worker listens on it.

    Measured over the last minutes of its open runs, of workers that are alive: a worker that cannot load a model, or
    that serves other queues too, counts as far as it works. A worker that began meanwhile counts as the others do. If
    nothing was claimed meanwhile, or fewer batches are open than processes are there, all processes count, as busy as
    in earlier runs.
    """
    serving = evidence.serving(queue)
    there = sum(worker.processes for worker in serving)
    names = {worker.name for worker in serving}
    runs = [run for run in evidence.runs.values() if run.queue == queue]
    busy = sum(seconds for run in runs for name, seconds in run.busy.items() if name in names)
    working = {name for run in runs for name in run.busy if name in names}
    # with fewer batches than processes some have nothing to do, and are free for what comes
    if not busy or sum(run.batches_open for run in runs) < there:
        histories = [evidence.history(run.job, queue) for run in runs]
        shares = [history.share_busy for history in histories if history.runs]
        return there * (median(shares) if shares else 1.0)
    known = sum(worker.processes for worker in serving if worker.name in working)
    since = max(run.busy_since for run in runs)
    new = sum(w.processes for w in serving if w.name not in working and w.age < since)
    return min(float(there), busy * (1 + new / known))


def _of_closing(evidence: Evidence, run: OpenRun, history: History) -> Forecast:
    """All is scored: the run is closed, or its key is built, which takes as long as it did before."""
    if not history.runs and (run.since_last_commit or 0.0) > 1.0:
        return Forecast(
            unknown="all its rows are scored, and no earlier run shows how long its end takes", queue=run.queue
        )
    left = max(0.0, history.closing - (run.since_last_commit or 0.0))
    at = evidence.now + timedelta(seconds=left)
    return Forecast(at, at, at, queue=run.queue, is_firm=True, closing=left, processes=1.0)


def _rows_left(run: OpenRun, history: History) -> tuple[float, str | None]:
    """Rows that are not done; while the run is planned at least as many as in earlier runs, unless it was requested for
    fewer. Or why they are unknown."""
    if not run.is_planning:
        return run.rows_open, None
    if not history.runs:
        return 0.0, "its rows are being counted, and no earlier run shows how many to expect"
    usual = median(past.rows for past in history.runs)
    usual = usual if run.most_rows is None else min(usual, run.most_rows)
    return max(run.rows_open, usual - run.rows_done), None


def _cost(run: OpenRun, history: History, rows_left: float) -> Range | None:
    own = costs.of_run(run.parts, rows_left) if run.batches_done >= FEWEST_BATCHES else None
    before = costs.of_history([Part(past.rows, past.busy) for past in history.runs])
    whole = run.rows_done + rows_left
    return costs.blend(own, before, run.rows_done / whole if whole else 0.0)


def _work(run: OpenRun, cost: Range, rows_left: float, alive: set[str]) -> Range:
    """Seconds of processes for the rows that are left, less what living workers have done of their batches."""
    done = sum(min(one.seconds, cost.likely * one.rows) for one in run.claims if one.worker in alive)
    return cost.times(rows_left).less(done)


def _share_ahead(other: OpenRun, place: _Place) -> float:
    """The share of the other run's open batches that are sent before the last one of this place, or are claimed."""
    if other.id == place.run or other.queue != place.queue or not other.batches_open:
        return 0.0
    claimed = len(other.claims) / other.batches_open
    if other.rank != place.rank:
        return 1.0 if other.rank < place.rank else claimed
    if other.last_open <= place.last:
        return 1.0
    if other.first_open >= place.last:
        return claimed
    return max(claimed, (place.last - other.first_open) / (other.last_open - other.first_open))


def _seconds(work: Range, processes: float, batch: Range) -> Range:
    """From Graham's lower bound to his upper one, likely in the middle."""
    side_by_side = max(1.0, processes)
    tail = 1 - 1 / side_by_side
    likely = work.likely / processes + tail * min(batch.likely, work.likely) / 2
    return Range(
        work.least / processes,
        max(likely, min(batch.likely, work.likely)),
        work.most / processes + tail * min(batch.most, work.most),
    )

"""What to type after a run that failed or left rows out: the command that its reason names."""

REQUEUE = "`scorebeat requeue {run}` puts back what it left out"
ENQUEUE = "`scorebeat enqueue {job}` scores its rows by another run"


def of(run_id: int, job: str, *, plan_is_whole: bool) -> str:
    """Where rows of the run were never planned only another run finds them; it takes those of dead batches too."""
    return REQUEUE.format(run=run_id) if plan_is_whole else ENQUEUE.format(job=job)

"""`python -m producer JOB`: enqueue a run by hand."""

import argparse
import sys

from scorebeat.broker.send import require_broker
from scorebeat.core.data_folder import joined
from scorebeat.core.errors import ScorebeatError
from scorebeat.core.settings import load_settings
from scorebeat.producer.context import Producer, whoami
from scorebeat.producer.requests.enqueue import Request, enqueue


def main(arguments: list[str] | None = None) -> int:
    """Enqueue a run of the job; exit code 0, or that of the error, which is printed on one line."""
    parser = argparse.ArgumentParser(
        prog="python -m producer",
        description="Enqueue a run over the rows of a job that have no prediction yet.",
        epilog="example: python -m producer iris; `scorebeat enqueue` has more options",
    )
    parser.add_argument("job", help="a job of jobs.toml")
    job = parser.parse_args(arguments).job
    try:
        p = Producer(joined(load_settings()), "python -m producer")
        require_broker(p.app)
        made = enqueue(p, Request(job, whoami()))
    except ScorebeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"run {made.run_id} of job {job} is enqueued; watch it with `scorebeat watch {made.run_id}`")
    return 0


if __name__ == "__main__":
    sys.exit(main())

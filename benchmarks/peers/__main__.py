"""`make bench-peers`: rows a second of Scorebeat and of what people would use instead, in alternating rounds."""

import argparse
import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, keep
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.report import markdown
from benchmarks.peers.rounds import JDBC_JAR, Size, measure
from benchmarks.peers.running import REPOSITORY
from benchmarks.peers.workloads import WORKLOADS

SPARK = "spark_jdbc"


def main() -> None:
    options = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    options.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    options.add_argument("--rows", nargs="+", default=[], metavar="WORKLOAD=ROWS", help="of a workload's table")
    options.add_argument("--most", type=int, default=10**9, help="rows that anything scores at most, to try the code")
    options.add_argument("--environment", type=Path, default=REPOSITORY / ".peers", help="where the peers are")
    chosen = options.parse_args()
    environment = chosen.environment.absolute()
    if not (environment / "bin" / "python").exists():
        options.error(f"there is no environment {environment}: `make bench-peers` makes it")
    peers = [PEERS[name] for name in chosen.peers if name != SPARK or _java(environment)]
    rows = {name: WORKLOADS[name].rows for name in chosen.workloads}
    rows |= {name: int(count) for name, _, count in (each.partition("=") for each in chosen.rows)}
    result: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "rounds": chosen.rounds,
        "workloads": {},
    }
    for name in chosen.workloads:
        size = Size(min(rows[name], chosen.most), chosen.most)
        result["workloads"][name] = measure(WORKLOADS[name], size, peers, chosen.rounds, environment)
        keep(result, RESULTS / "peers.json")
    print(f"\n{markdown(result)}")


def _java(environment: Path) -> bool:
    """Whether Spark can run; prints why it cannot."""
    missing = [] if shutil.which("java") else ["java is not on the path (Debian: openjdk-17-jre-headless)"]
    if not (environment / JDBC_JAR).exists():
        missing.append(f"{environment / JDBC_JAR} is not there (Debian: libpostgresql-jdbc-java)")
    if missing:
        print(f"{SPARK} is left out: {', '.join(missing)}")
    return not missing


if __name__ == "__main__":
    main()

"""The results as tables of Markdown, for the README and the pages."""

from typing import Any

from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.workloads import WORKLOADS


def markdown(result: dict[str, Any]) -> str:
    """Two tables: how many times faster Scorebeat was, and the rows a second behind it; then the versions."""
    workloads: dict[str, Any] = result["workloads"]
    names = [name for name in PEERS if any(name in one["peers"] for one in workloads.values())]
    lines = [
        _row("Scorebeat is faster than", *(_heading(name, one) for name, one in workloads.items())),
        _row("---", *["---"] * len(workloads)),
        *(_row(PEERS[name].title, *(_ratio(one, name) for one in workloads.values())) for name in names),
        "",
        _row("rows/s", *workloads),
        _row("---", *["---"] * len(workloads)),
        _row("**Scorebeat**", *(f"{one['scorebeat, rows/s']['median']:,.0f}" for one in workloads.values())),
        *(_row(PEERS[name].title, *(_speed(one, name) for one in workloads.values())) for name in names),
        "",
        ", ".join(f"{package} {version}" for package, version in _versions(workloads).items()),
    ]
    return "\n".join(lines)


def _heading(name: str, workload: dict[str, Any]) -> str:
    return f"{name}: {WORKLOADS[name].title}; {workload['rows']:,} rows"


def _ratio(workload: dict[str, Any], peer: str) -> str:
    if (found := workload["peers"].get(peer)) is None:
        return ""
    times = found["scorebeat is faster by"]
    return f"**{_number(times['median'])} x** ({_number(times['least'])} to {_number(times['most'])})"


def _speed(workload: dict[str, Any], peer: str) -> str:
    if (found := workload["peers"].get(peer)) is None:
        return ""
    speed = f"{found['rows/s']['median']:,.0f}"
    return speed if found["rows"] == workload["rows"] else f"{speed} over {found['rows']:,}"


def _number(times: float) -> str:
    return f"{times:,.1f}" if times < 10 else f"{times:,.0f}"


def _versions(workloads: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for workload in workloads.values():
        for peer in workload["peers"].values():
            found |= peer["versions"]
    return dict(sorted(found.items(), key=lambda each: each[0].lower()))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

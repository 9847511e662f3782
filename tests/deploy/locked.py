"""Writes down the versions that pip would install: `python -m tests.deploy.locked < REPORT`, as constraints."""

import json
import sys
from collections.abc import Iterator
from typing import Any


def locked(report: dict[str, Any]) -> Iterator[str]:
    """`name==version` of each package in a report of pip's, without our own and without a build's mark (`+cpu`)."""
    for one in report["install"]:
        name, version = one["metadata"]["name"], one["metadata"]["version"]
        if name != "scorebeat":
            yield f"{name}=={version.partition('+')[0]}"


if __name__ == "__main__":
    print(*locked(json.load(sys.stdin)), sep="\n")

"""`python -m tests.support.poisoned_api`: `scorebeat api` on a free port, with a format of models that hang."""

from scorebeat.ops.cli.app import cli
from tests.support import poison

if __name__ == "__main__":
    assert poison.NAME
    cli(["api", "--port", "0"])

"""`python -m tests.poisoned_api`: `scorebeat api` on a free port, which knows the tests' format of models that hang."""

from scorebeat.ops.cli.app import cli
from tests import poison

if __name__ == "__main__":
    assert poison.NAME
    cli(["api", "--port", "0"])

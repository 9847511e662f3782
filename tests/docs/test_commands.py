"""The pages' commands do what the pages promise, typed as a reader types them.

The demo, which the pages only name, is run by tests/integration/stack/test_iris.py.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scorebeat.core.data_folder import StackUrls, joined
from scorebeat.core.settings import Settings
from scorebeat.db.connect.engine import make_engine
from tests.docs.pages import REPOSITORY, Block, Page, commands
from tests.docs.shell import Reader, reader

pytestmark = pytest.mark.wide

QUICKSTART = Page.read(REPOSITORY / "docs/tutorial/quickstart.md")
README = Page.read(REPOSITORY / "README.md")
AFTER_THE_QUICKSTART = (
    "score-some-rows", "model-versions", "requeue", "enqueue-from-outside", "use-from-python", "celery", "http-api",
    "what-runs-cost", "bring-scikit-learn", "bring-onnx", "bring-mlflow", "bring-pytorch", "bring-xgboost-lightgbm",
    "prune", "read-from-dbt-and-bi", "alert-on-lateness", "backfill", "feature-queries",
    "score-what-changed", "stop-and-pause",
)  # fmt: skip
"""How-tos that go on in the quickstart's folder, beside its running system.

`stop-and-pause` ends with the quickstart's schedule, every 3 seconds, so all pages with runs of their own come before.
"""


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who did the quickstart, and whose system still runs."""
    with reader(tmp_path_factory.mktemp("quickstart") / "churn") as one:
        one.follow(QUICKSTART)
        yield one


def test_the_quickstart_does_what_it_promises(quickstart: Reader) -> None:
    assert (quickstart.folder / "churn.skops").exists()
    assert [command.text for command, _ in quickstart.running] == ["scorebeat up"]


@pytest.mark.parametrize("name", AFTER_THE_QUICKSTART)
def test_the_commands_of_a_how_to_do_what_its_page_promises(name: str, quickstart: Reader) -> None:
    if name == "bring-pytorch":
        pytest.importorskip("torch", reason="torch is not installed: make install EXTRAS=dev,torch")
    quickstart.follow(Page.read(REPOSITORY / f"docs/how-to/{name}.md"))


@pytest.mark.parametrize(
    "script",
    [
        "scorebeat nosuch",
        "scorebeat runs --help | cat",
        "python -c 'import sys; print(sys.argv, sys.stdin.read()); sys.exit(3)' a b <<< text",
        "echo 'import sys; print(sys.argv, sys.path[0], __name__)' > mine.py; python mine.py a",
        "python - <<< 'print(5)'",
        "python -c '1 / 0'",
        "python -c 'import os; os.abort()'",
        "python -c 'import sys; sys.exit(\"said\")'",
        """python -c 'import signal as s, sys; s.signal(15, lambda *_: sys.exit(7)); print(flush=1); s.pause()' > x &
        until [ -s x ]; do sleep 0.1; done; kill $!; wait $!""",
        """python -c 'import os, time; print(os.getpid(), flush=True); time.sleep(600)' > pid &
        until [ -s pid ]; do sleep 0.1; done; kill -9 $!; while kill -0 $(cat pid); do sleep 0.1; done""",
    ],
)
def test_a_command_that_is_forked_does_what_a_new_python_does(script: str, tmp_path: Path) -> None:
    done = []
    for forks in (True, False):
        with reader(tmp_path / "reader", forks=forks) as one:
            done.append(one.shell(script))
        shutil.rmtree(tmp_path / "reader")
    forked, new = done

    assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout)


def test_own_servers_need_two_variables_only(tmp_path: Path, stack: StackUrls, empty_database: str) -> None:
    page = Page.read(REPOSITORY / "docs/how-to/own-servers.md")
    shown = next(block for block in page.blocks if block.file == ".env")
    ours = {"SCOREBEAT_DATABASE_URL": empty_database, "SCOREBEAT_BROKER_URL": stack.broker_url}
    assert [line.partition("=")[0] for line in shown.lines] == list(ours)

    with reader(tmp_path / "own") as one:
        (one.folder / ".env").write_text("".join(f"{name}={url}\n" for name, url in ours.items()))
        for block in page.blocks:
            if block.language == "console":
                one.type(block)


def test_the_readme_does_what_it_promises(tmp_path: Path) -> None:
    with reader(tmp_path / "readme", forks=False) as one:  # every command is a new Python, which imports what it needs
        one.save(QUICKSTART, "train.py")
        up, job = (block for block in README.blocks if block.language == "console" and "not run" not in block.note)
        one.type(up)
        for command in _of_section(QUICKSTART, "customers", "train.py"):
            assert one.shell(command).returncode == 0
        one.save(README, "jobs.toml")
        one.type(job)
        assert _rows(one, next(block for block in README.blocks if block.language == "sql")) == 5


def _of_section(page: Page, *words: str) -> Iterator[str]:
    """The page's first commands that hold each of the words: what makes the table, what trains the model."""
    typed = [c.text for b in page.blocks if b.language == "console" for c in commands(b)]
    yield from (text for text in typed[:10] if any(word in text for word in words) and "SELECT id" not in text)


def _rows(one: Reader, query: Block) -> int:
    settings = joined(Settings(_env_file=None, data=one.folder / ".scorebeat"))
    engine = make_engine(settings.database())
    with engine.connect() as connection:
        found = connection.exec_driver_sql(query.text).all()
    engine.dispose()
    return len(found)

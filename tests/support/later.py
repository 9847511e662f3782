"""The next version's migrations: a copy of ours, and some that a test makes up."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from scorebeat.db.schema import revisions

_SCRIPT = '''"""Made up for a test."""
{constants}
from alembic import op

from scorebeat.db.schema.migrations.indexes import create_index

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade():
{body}
'''


@dataclass
class Later:
    """A program of a version to come, in the test's own process."""

    folder: Path
    newest: str

    def add(self, *statements: str, **constants: str) -> str:
        """A migration of these lines of Python, such as `op.execute("...")`; returns its revision."""
        revision = f"{int(self.newest) + 1:04d}"
        script = _SCRIPT.format(
            revision=revision,
            before=self.newest,
            body="\n".join(f"    {one}" for one in statements),
            constants="".join(f"{name} = {value!r}\n" for name, value in constants.items()),
        )
        (self.folder / "versions" / f"{revision}_made_up.py").write_text(script)
        self.newest = revision
        return revision

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block this process is that version."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(revisions, "FOLDER", self.folder)
            yield


@pytest.fixture
def later(tmp_path: Path) -> Later:
    """As yet with our own migrations only."""
    folder = tmp_path / "migrations"
    shutil.copytree(revisions.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    newest = max(path.name[:4] for path in (folder / "versions").glob("[0-9]*.py"))
    return Later(folder, newest)

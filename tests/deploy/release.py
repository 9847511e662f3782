"""`make release-check`: what would be uploaded is built, looked at, installed alone, and runs the demo to its end."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TOOLS = ("build>=1.3,<2", "twine>=7,<8")
"""In an environment of their own that is made anew: nothing that we install depends on them."""
JUNK = re.compile(r"(^|/)(\.ci|\.git|\.scorebeat|\.venv|\.env|artifacts|dist|__pycache__|\.\w+_cache|[^/]*\.pyc)(/|$)")
NEEDED = ("README.md", "CHANGELOG.md", "SECURITY.md", "Makefile", "constraints.txt", "docker-compose.yml")
TESTS = ("tests/conftest.py", "tests/support/released_rows.sql")
DEMO_WITHIN = 900


def main() -> None:
    """Ends with 1 at the first thing that is wrong; what was built lies in `dist/`."""
    began = time.monotonic()
    version = project(REPOSITORY)["version"]
    require_changes(REPOSITORY, version)
    if changed := _output("git", "status", "--porcelain"):
        sys.exit(f"error: there are changes that no commit has; a release is made of commits:\n{changed}")
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        built = _build(folder)
        require_names(built, version)
        _demo(_installed(folder, built[0]), folder, version)
    print(f"{version} is ready: {', '.join(file.name for file in built)} in dist/, {time.monotonic() - began:.0f} s")


def project(folder: Path) -> dict[str, str]:
    """The block of that name in pyproject.toml."""
    found: dict[str, str] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def require_changes(folder: Path, version: str) -> None:
    """Ends with 1 unless the changelog has something under the version, with a day."""
    text = (folder / "CHANGELOG.md").read_text("utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    found = [part for part in parts if re.match(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n", part)]
    if len(found) != 1 or not re.search(r"^- ", found[0], re.MULTILINE):
        sys.exit(f"error: CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD` with a change in it")


def junk(names: Iterable[str]) -> list[str]:
    """Those that no archive of ours may hold."""
    return [name for name in names if JUNK.search(name)]


def require_names(built: list[Path], version: str) -> None:
    """Ends with 1 when the wheel and the source archive lack something, or hold what they should not."""
    wheel, source = built
    with zipfile.ZipFile(wheel) as opened:
        inside = opened.namelist()
    with tarfile.open(source) as archive:
        root = f"scorebeat-{version}/"
        packed = [name.removeprefix(root) for name in archive.getnames()]
    migrations = [f"scorebeat/db/migrations/versions/{path.name}" for path in _migrations()]
    missing = {*NEEDED, *TESTS, *(f"src/{name}" for name in migrations)} - set(packed) | {*migrations} - set(inside)
    if wrong := [*junk(inside), *junk(packed), *sorted(missing)]:
        sys.exit(f"error: these are in the archives and should not be, or are missing: {', '.join(wrong)}")


def _migrations() -> list[Path]:
    return sorted((REPOSITORY / "db/schema/migrations/versions").glob("[0-9]*.py"))


def _build(folder: Path) -> list[Path]:
    """The wheel, made from the source archive, and that archive; both pass the strict check."""
    tools = _environment(folder / "tools")
    _run(tools / "pip", "install", "--quiet", "--disable-pip-version-check", *TOOLS)
    out = REPOSITORY / "dist"
    shutil.rmtree(out, ignore_errors=True)
    _run(tools / "python", "-m", "build", "--outdir", out, REPOSITORY)
    built = [*out.glob("*.whl"), *out.glob("*.tar.gz")]
    _run(tools / "twine", "check", "--strict", *built)
    return built


def _installed(folder: Path, wheel: Path) -> Path:
    """The programs of a new environment with the wheel and what it needs, at the versions that were tested."""
    programs = _environment(folder / "alone")
    quiet = ("--quiet", "--disable-pip-version-check")
    _run(programs / "pip", "install", *quiet, "-c", REPOSITORY / "constraints.txt", wheel)
    return programs


def _demo(programs: Path, folder: Path, version: str) -> None:
    """In an empty folder, with nothing set."""
    empty = folder / "empty"
    empty.mkdir()
    alone = {"PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(empty)}
    printed = _output(programs / "scorebeat", "--version", cwd=empty, env=alone).split()[-1]
    script = "from importlib.metadata import version; print(version('scorebeat'))"
    api = _output(programs / "python", "-c", script, cwd=empty, env=alone)
    if {printed, api} != {version}:
        sys.exit(f"error: `scorebeat --version` prints {printed}, the package {api}; pyproject.toml has {version}")
    _run(programs / "scorebeat", "demo", cwd=empty, env=alone, timeout=DEMO_WITHIN)


def _environment(folder: Path) -> Path:
    """A new virtual environment; returns the folder of its programs."""
    _run(sys.executable, "-m", "venv", folder)
    return folder / "bin"


def _run(*command: str | Path, cwd: Path = REPOSITORY, env: dict[str, str] | None = None, timeout: int = 1200) -> None:
    print(f"$ {' '.join(map(str, command))}", flush=True)
    try:
        subprocess.run(command, cwd=cwd, env=env, timeout=timeout, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {error}")


def _output(*command: str | Path, cwd: Path = REPOSITORY, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, timeout=120, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}: {done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()

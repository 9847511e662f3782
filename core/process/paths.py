"""Paths as people read them. Settings keep them absolute, because a model may change the working directory."""

from pathlib import Path


def shown(path: Path) -> Path:
    """The path as a person would type it: relative if it is below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

"""Paths as people read them: settings keep them absolute, whatever a model makes of the working directory."""

from pathlib import Path


def shown(path: Path) -> Path:
    """The path as a person would type it: relative, where it lies below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

"""The names that files of containers may use."""

from scorebeat.core.settings import PREFIX, Settings

SETTINGS = frozenset(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)
"""The variables that are settings."""


def unknown(names: set[str]) -> set[str]:
    """Those of the names that look like settings and are none."""
    return {name for name in names if name.startswith(PREFIX)} - SETTINGS

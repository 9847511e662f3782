"""Puts the Runs tab into Flower, when `celery -A worker flower` starts it."""

import logging
from importlib import import_module
from importlib.metadata import version

from scorebeat.core.events import configure_logging, emit
from scorebeat.core.settings import Settings

TRIED = "2.2"
"""The version of Flower that the tab was tested with; with another version there is no tab."""


def install(settings: Settings) -> bool:
    """Add our pages to the Flower that is about to start; False, with a log line, if its version is another one."""
    configure_logging(settings.log_format)  # Flower sets the level by its own option, and keeps our handler
    found = version("flower")
    if found.split(".")[:2] != TRIED.split("."):
        emit("flower.no_tab", logging.WARNING, flower=found, expected=f"{TRIED}.*", reason="not tried with this one")
        return False
    try:
        # imported here: another version of Flower may lack what it imports
        import_module("scorebeat.monitor.tab").wire(settings)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        emit("flower.no_tab", logging.WARNING, flower=found, reason=str(error))
        return False
    return True

"""Types of options that several commands share."""

import click


class Whole(click.IntRange):
    """A whole number within bounds. The message for anything else says "integer", not click's "integer range"."""

    name = "integer"

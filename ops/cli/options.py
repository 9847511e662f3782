"""Types of options that several commands share."""

import click


class Whole(click.IntRange):
    """A whole number within bounds; a word is refused as no integer, and not as no "integer range"."""

    name = "integer"

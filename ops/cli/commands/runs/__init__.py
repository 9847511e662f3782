"""Commands that start, follow and correct runs."""

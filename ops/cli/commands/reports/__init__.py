"""Commands that report what was done, how well, and for how much."""

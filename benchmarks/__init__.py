"""Measurements; each prints what it measured against, in the same run."""

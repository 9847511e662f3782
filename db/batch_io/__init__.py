"""Rows of a batch: its keys, reading them as Arrow, and writing predictions."""

"""Scoring rows with an opened model: micro-batches, checks, and protection from the model's own code."""

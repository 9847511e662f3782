"""Predictions while a caller waits."""

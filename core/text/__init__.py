"""Texts that people and programs write: durations, times, JSON, and control characters in them."""

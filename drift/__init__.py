"""Profiles of what a model gets and returns, and how far two of them are apart."""

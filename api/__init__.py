"""Results, runs and online predictions over HTTP."""

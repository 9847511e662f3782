"""Rows that no model gets: refused values, values that do not fit, NULL where the job refuses it."""

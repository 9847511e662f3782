"""Requests of people and programs: runs, requeues, backfills, jobs files."""

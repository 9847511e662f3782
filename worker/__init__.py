"""Claim, fetch, predict, commit: the Celery application and its workers."""

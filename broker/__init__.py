"""Everything that speaks to the broker: the Celery application, sending, permissions, and the guard of what is read."""

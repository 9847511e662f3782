"""Batch inference on Celery: every row scored exactly once, whatever crashes."""

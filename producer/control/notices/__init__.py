"""Notices to people: which are due, and webhooks."""

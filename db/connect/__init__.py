"""Connections to PostgreSQL: opening them, their settings, quoting, locks, and errors of the database."""

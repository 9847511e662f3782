"""Ticks: which jobs are due, missed or overdue."""

"""Prices of core-hours and GPU-hours, and the file that has them."""

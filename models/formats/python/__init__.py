"""A model as a Python class."""

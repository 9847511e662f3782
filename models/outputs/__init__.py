"""Outputs of a model: names of columns, and the check of each value before it is stored."""

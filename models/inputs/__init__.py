"""Inputs of a model: options of a person, sample rows, binding to a query's columns, matrices."""

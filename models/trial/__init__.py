"""The trial of a model before it is added."""

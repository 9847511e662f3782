"""Prediction tables and the views that readers see."""

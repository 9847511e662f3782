"""The Runs tab in Flower."""

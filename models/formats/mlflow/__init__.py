"""MLflow model folders."""

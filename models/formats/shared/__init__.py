"""What several formats of model files share."""

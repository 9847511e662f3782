"""One module a format of model files, each a `models.registry.Format`, with what they share."""

"""One module a format of model files, each a `models.formats.registry.Format`, with what they share."""

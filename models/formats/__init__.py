"""One module for each format of model files, each a `models.formats.registry.Format`, and their shared code."""

"""The store of model versions: a folder or any fsspec URL, with local copies."""

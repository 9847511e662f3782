"""Model versions: adding, comparing, publishing, dropping."""

"""A job's query: its columns and key, its parameters, its pending rows, and fetched values."""

"""A job's query: its columns and key, its parameters, which rows are pending, and values as they are fetched."""

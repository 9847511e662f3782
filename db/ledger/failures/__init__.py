"""Failed rows and batches: narrowed, quarantined, grouped, requeued."""

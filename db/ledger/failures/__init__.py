"""Failed rows and batches: isolated, quarantined, grouped, requeued."""

"""Commands that read, change and prune jobs."""

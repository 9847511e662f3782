"""Pages of lists: jobs, runs, batches, and results over HTTP."""

"""The ledger's state machine: jobs, model versions, runs, plan leases, batches, and quarantine."""

"""The ledger's state machine: jobs, versions, runs, plan leases, batches, outbox, watermarks, failures, evidence."""

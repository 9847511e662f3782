"""Records beside the ledger's state machine: the audit, counters, notices, turns, and retention."""

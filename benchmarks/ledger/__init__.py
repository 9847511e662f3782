"""What the ledger and the broker carry and cost, played without models."""

"""Reports that people and programs read from the ledger; nothing here changes it."""

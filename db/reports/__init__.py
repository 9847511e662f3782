"""What people and programs read of the ledger; nothing here changes anything."""

"""The ledger's tables: their definition, functions, roles, and migrations."""

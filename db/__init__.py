"""Everything that speaks SQL: tables, the ledger's moves, planning queries, column transfer, migrations."""

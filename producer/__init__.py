"""Ticks, plans, dispatch, rescue, settling and requeueing: what keeps the ledger moving."""

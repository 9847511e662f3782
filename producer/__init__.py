"""Ticks, plans, dispatch, rescue, settling and requeueing: what moves work through the ledger."""

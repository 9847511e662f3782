"""Closing runs: the final state, what readers see then, and totals."""

"""The end of a run: its final state, what readers see then, and its totals."""

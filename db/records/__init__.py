"""Records beside the state machine: audit, counters, notices, turns, usage, prices, device limits, retention."""

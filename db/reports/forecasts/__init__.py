"""When runs are expected to end, and what the coming days hold."""

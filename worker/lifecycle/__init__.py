"""A worker's processes: start, heartbeat, signals, standstill, drain."""

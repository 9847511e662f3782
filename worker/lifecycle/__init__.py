"""A worker's processes: start, preload, devices, heartbeat, deadlines, signals, standstill, drain, bursts."""

"""What people would use instead of Scorebeat, on the same server and rows: `make bench-peers`."""

"""When runs end: what a row costs, the work that is left, and the coming day of a queue. Arithmetic alone."""

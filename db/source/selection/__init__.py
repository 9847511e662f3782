"""Which rows of a query a plan takes: pending, after a cursor, of a range of keys, in a snapshot."""

"""Machine-learning models: their contract, their store, one module a format. Tables live in `db`."""

"""Machine-learning models: their contract, their store, one module for each format. Tables live in `db`."""

"""Types of columns, values of parameters, and rows that a notebook shows."""

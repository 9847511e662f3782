"""Types of columns, values of parameters, and rows as a notebook reads them."""

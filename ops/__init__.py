"""What an operator does: the command line, and the embedded stack."""

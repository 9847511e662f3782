"""What an operator does: the command line, status, the embedded stack."""

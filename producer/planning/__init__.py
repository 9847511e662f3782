"""What a plan reads: the rows of a run, and from where in its cursor."""

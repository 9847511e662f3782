"""Charts of a job's page and report: what is drawn where, and the same as a table."""

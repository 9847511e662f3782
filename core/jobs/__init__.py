"""Jobs as a jobs file describes them: the file, one block of it, schedules, and parameters of a query."""

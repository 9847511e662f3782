"""The control tick: planning, ticks of schedules, sending again, notices, and closing of runs."""

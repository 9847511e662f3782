"""What every folder shares: errors, settings, events, jobs and schedules, states."""

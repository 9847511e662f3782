"""What every folder shares: errors, settings, events, names, jobs and schedules, forecasts, prices, states."""

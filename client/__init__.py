"""The public Python API: runs, jobs, models, predictions, from a notebook, another application or a scheduler."""

"""CPUs and GPUs: which there are, and which a process may use."""

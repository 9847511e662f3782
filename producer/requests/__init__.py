"""What a person or a program asks for: runs, requeues, backfills, jobs files."""

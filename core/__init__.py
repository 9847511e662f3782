"""Words and settings that every room shares."""

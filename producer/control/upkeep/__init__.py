"""What each control round does once: rescue, settle, drop, compare, measure."""

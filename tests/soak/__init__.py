"""`make soak`: a run of millions of rows while everything around it is killed, stopped and wiped."""

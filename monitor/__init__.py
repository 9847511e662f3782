"""What people and machines watch: the Runs tab in Flower, and metrics."""

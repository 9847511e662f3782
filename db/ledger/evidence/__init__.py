"""What is known about the predictions of a version: profiles, measured quality, canaries."""

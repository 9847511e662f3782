"""Processes of the system as the database knows them: signs of life, workers, and what they cannot load."""

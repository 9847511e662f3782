"""This process: its name, its import path, its working folder, and commands that it starts."""

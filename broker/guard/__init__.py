"""The guard: what is read from the broker is checked before anything of it is used."""

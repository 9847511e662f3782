"""The peers: one file each, as their users would write it. They run in `.peers`, and import nothing of Scorebeat."""

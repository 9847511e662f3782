"""PostgreSQL and Valkey without an installation of either."""

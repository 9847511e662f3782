"""The embedded stack: PostgreSQL, Valkey and Scorebeat's own processes on one machine."""

"""How long Scorebeat's programs take, which containers and pods must wait for."""

COMMAND_SECONDS = 10
"""Seconds in which a command that queries the ledger starts and ends on a busy machine; 1 is Kubernetes' own."""
SERVED_TO_THE_END = 30
"""Seconds in which the API may end the requests that it has begun."""

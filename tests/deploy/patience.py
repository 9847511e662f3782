"""How long Scorebeat's programs take, which containers and pods must wait for."""

ASKED_BY_COMMAND = 10
"""Seconds in which a command that asks the ledger has started and answered on a busy machine; 1 is Kubernetes' own."""
SERVED_TO_THE_END = 30
"""Seconds that the API gives the requests that it has begun."""

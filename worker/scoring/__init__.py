"""One batch: claim, fetch, predict, commit."""

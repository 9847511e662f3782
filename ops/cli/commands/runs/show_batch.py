"""`show RUN --batch`: one batch and its rows."""

import csv
import sys
from itertools import islice

import click

from scorebeat.core.errors import UnknownName, UsageError
from scorebeat.db.batch_io import batch_keys
from scorebeat.db.ledger import model_versions
from scorebeat.db.ledger import runs as run_rows
from scorebeat.db.predictions import prediction_sets, set_drops
from scorebeat.db.reports import status
from scorebeat.db.source import filters, source
from scorebeat.db.source.selection import planning_cursor
from scorebeat.ops.cli import output
from scorebeat.producer.context import Producer

COLUMNS = ("id", "number", "state", "rows_planned", "rows_scored", "rows_failed", "attempt", "claimed_by",
           "device", "fetch_seconds", "predict_seconds", "commit_seconds", "error")  # fmt: skip
FIRST_KEYS = 10


def show_batch(producer: Producer, run: int, batch: int, *, keys_only: bool, as_json: bool) -> None:
    """Print the batch with its first keys, or with all of them. Raises UnknownName, also for a batch that is a range of
    keys if its predictions were dropped."""
    with planning_cursor.reading(producer.engine) as connection:
        status.get(connection, run)
        found = status.batches(connection, run, batch)
        if not found:
            raise UnknownName(f"run {run} has no batch {batch}; `scorebeat show {run} --json` lists its batches")
        its_run = run_rows.get(connection, run)
        described = source.describe(connection, producer.url, its_run.job, its_run.values)
        if its_run.selection.where is not None:
            # the role of a run may store any condition, and ours may have more rights
            filters.require_filter(connection, producer.url, described, its_run.selection.where)
        target = prediction_sets.get(connection, its_run.prediction_set_id)
        if not found[0]["is_list"]:
            # only the predictions show which rows of its range a batch scored
            model_versions.get(connection, its_run.model, its_run.model_version)
            try:
                set_drops.require_table(connection, target)
            except UsageError:
                raise UnknownName(
                    f"{target.table} was dropped, so nobody knows any more which rows the batches of run {run} scored; "
                    f"`scorebeat show {run}` has their counts"
                ) from None
        keys = batch_keys.of_batch(connection, described, its_run, target, batch)
        if as_json:
            output.print_json(found[0] | {"keys": [list(key) for key in keys]})
        elif keys_only:
            # `csv` quotes a carriage return only if lines end with it, and a reader takes it for the end of a line
            usual = csv.writer(sys.stdout, lineterminator="\n")
            quoted = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
            for key in keys:
                (quoted if any("\r" in part for part in key) else usual).writerow(key)
        else:
            first = list(islice(keys, FIRST_KEYS + 1))
            kind = "list of keys" if found[0]["is_list"] else "range of keys"
            ends = {"from": ", ".join(found[0]["first_key"]), "to": ", ".join(found[0]["last_key"])}
            output.fields({name: found[0][name] for name in COLUMNS} | {"kind": kind} | ends)
            click.echo()
            for key in first[:FIRST_KEYS]:
                click.echo(", ".join(output.cell(text) for text in key))
            if len(first) > FIRST_KEYS:
                click.echo("...  (all by --keys)")

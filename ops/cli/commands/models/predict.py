"""`predict`: score rows from the command line at once, with a model of the ledger."""

import sys

import click

from scorebeat.core.errors import UsageError
from scorebeat.core.process import watched_command
from scorebeat.core.text.json_input import RepeatedKey, read_json
from scorebeat.models.scoring.surroundings import Surroundings
from scorebeat.online.predictor import Predictor
from scorebeat.ops.cli import output
from scorebeat.ops.cli.context import database


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--json", "text", required=True, metavar="ROWS", help="A list of objects, or one; - reads standard input."
)
def predict(model: str, text: str) -> None:
    """Score rows now by MODEL: iris, which is its published version, or iris/3. Nothing is stored.

    Each row is an object with the model's inputs by name. The output is a list of as many objects.

    \b
    Example:
        scorebeat predict sentiment --json '[{"review": "this was very well done"}]'
    """
    try:
        rows = read_json(sys.stdin.buffer.read().decode("utf-8") if text == "-" else text, _refuse)
    except RepeatedKey as error:
        raise UsageError(f"--json: {error}") from None
    except ValueError as error:
        raise UsageError(f"--json is not JSON: {error}") from None
    if isinstance(rows, dict):
        rows = [rows]
    if not isinstance(rows, list):
        raise UsageError('--json: expected a list of objects, such as [{"review": "well done"}], or one object')
    with (
        database() as producer,
        watched_command.model_code(f"model {model} scored nothing"),
        Surroundings(model).entered(),
    ):
        predictions = Predictor(producer).predict(model, rows)
    output.print_json(predictions)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")

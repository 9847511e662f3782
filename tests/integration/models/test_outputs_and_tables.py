"""Output columns in a job's table: a type that it cannot hold is refused with the reason, others fit."""

from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.source.values.types import column_type
from scorebeat.models.outputs.column_names import MOST, ROOM, output_schema
from tests.support.cli_fixtures import JOB, Cli, refused, write_adder


@pytest.mark.usefixtures("pairs")
def test_an_output_with_the_name_of_the_key_is_refused_with_what_to_write(
    scorebeat: Cli, settings: Settings, tmp_path: Path, engine: Engine
) -> None:
    settings.jobs.write_text(JOB)
    file = write_adder(tmp_path / "adder.skops", "a", "b")
    scorebeat("models", "add", str(file), "--name", "adder", "--outputs", "id")

    refused(
        scorebeat("apply"),
        "output 'id' of adder/1 is the name of the job's key, too: write SELECT \"id\" AS another_name, or add the "
        "model with other names by --outputs. No table was made and no job was changed",
    )
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM scorebeat.jobs")).scalar_one() == 0


@pytest.mark.parametrize(("kind", "count", "value"), [(pa.float64(), ROOM // 8, "0.1"), (pa.bool_(), MOST, "true")])
def test_as_many_columns_as_are_taken_fit_into_a_row(engine: Engine, kind: pa.DataType, count: int, value: str) -> None:
    made = output_schema([(f"c{n}", kind) for n in range(count)], (), "m")
    fields = ", ".join(f"{field.name} {column_type(field.type)}" for field in made)

    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE wide (id uuid PRIMARY KEY, batch_id bigint, at timestamptz, {fields})"
        )
        values = ", ".join([value] * count)
        connection.exec_driver_sql(f"INSERT INTO wide VALUES (gen_random_uuid(), 1, now(), {values})")
        found = connection.execute(text(f"SELECT c{count - 1} FROM wide")).scalar_one()

    assert found == (True if value == "true" else 0.1)

"""Source tables of real measurements, with every kind of key."""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from scorebeat.examples.iris import data

INPUTS = ("a", "b", "c", "d")


@dataclass(frozen=True)
class KeyCase:
    """A kind of key: its columns as SQL, and an expression over a number `n` for each."""

    columns: dict[str, str]
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)


BIGINT = KeyCase({"id": "bigint"}, ("n * 7 - 500",))
KEYS = {
    "bigint": BIGINT,
    "uuid": KeyCase({"id": "uuid"}, ("md5(n::text)::uuid",)),
    "text": KeyCase({"id": 'text COLLATE "C"'}, ("(ARRAY['Zoë', 'a''b', '%s', 'x \"y\"', 'Ä'])[n % 5 + 1] || n",)),
    "two columns": KeyCase(
        {"customer": "text", "as_of": "date"}, ("'c' || n % 17", "date '2026-01-01' + (n / 17)::int")
    ),
}


def fill(engine: Engine, table: str, keys: KeyCase, first: int, count: int) -> None:
    """`count` more real measurements, numbered from `first`; the table is made if it is not there."""
    columns = ", ".join(f"{name} {kind}" for name, kind in keys.columns.items())
    measured = data.rows(first + count)[first:]
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {table} ({columns}, a float8, b float8, c float8, d float8,"
                f" PRIMARY KEY ({', '.join(keys.names)}))"
            )
        )
        connection.execute(
            text(
                f"INSERT INTO {table} SELECT {', '.join(keys.values)}, a, b, c, d FROM (SELECT :first + ordinality"
                " AS n, a, b, c, d FROM unnest(CAST(:a AS float8[]), CAST(:b AS float8[]), CAST(:c AS float8[]),"
                " CAST(:d AS float8[])) WITH ORDINALITY AS v(a, b, c, d, ordinality)) s"
            ),
            {"first": first, **dict(zip(INPUTS, measured.T.tolist(), strict=True))},
        )

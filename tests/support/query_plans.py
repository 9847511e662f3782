"""PostgreSQL's plans for the statements of functions of `db`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from scorebeat.db.connect.engine import make_engine


@contextmanager
def explaining(engine: Engine) -> Iterator[Engine]:
    """An engine of the same database that explains statements over the ledger instead of running them."""
    made = make_engine(engine.url.render_as_string(hide_password=False))
    event.listen(made, "before_cursor_execute", _explained, retval=True)
    yield made
    made.dispose()


def _explained(_c: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> tuple[str, Any]:
    return (f"EXPLAIN {statement}" if "scorebeat." in statement else statement), values


def plan_of(engine: Engine, run: Callable[[Connection], Any]) -> str:
    """PostgreSQL's plan for the statement of a function of `db`; the function's result is not used."""
    plans: list[str] = []

    def keep(_c: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("EXPLAIN"):
            plan = "\n".join(row[0] for row in cursor.fetchall())
            if "on counters" not in plan:  # first comes the lock of whoever does it alone
                plans.append(plan)
                raise _Seen

    with engine.connect() as connection:
        event.listen(connection, "after_cursor_execute", keep)
        with pytest.raises(_Seen):
            run(connection)
    return plans[0]


class _Seen(Exception):
    pass

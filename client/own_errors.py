"""Errors of the drivers leave the public API as errors of the product: the one way in which they are mapped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

import adbc_driver_manager
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scorebeat.core.errors import PrefixUnknown, ScorebeatError, ServiceDown, one_line
from scorebeat.core.urls import redact
from scorebeat.db.connect import database_errors
from scorebeat.db.connect.engine import reachable
from scorebeat.db.reports import results

C = TypeVar("C")
ENDED_BY_A_LIMIT = "57014"
_UNDONE = "Its transaction was undone"


@contextmanager
def own_errors(url: str) -> Iterator[None]:
    """In the block, each error of the database raises ScorebeatError, without passwords or values of rows."""
    try:
        with reachable(url):
            yield
    except PrefixUnknown as error:
        raise ServiceDown(str(error)) from None
    except PoolTimeout:
        raise ScorebeatError(
            "other threads use all connections of this client. Nothing was changed; try again, or use a client a thread"
        ) from None
    except (DBAPIError, adbc_driver_manager.Error) as error:
        raise _as_own(error) from None


def with_own_errors(public: type[C]) -> type[C]:
    """The class, with `own_errors` around its public methods and properties. Its objects have a `_producer`."""
    for name, member in list(vars(public).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, FunctionType):
            setattr(public, name, _mapped(member))
        elif isinstance(member, property) and member.fget is not None:
            setattr(public, name, property(_mapped(member.fget), doc=member.__doc__))
    return public


def _mapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def mapped(self: Any, *args: Any, **more: Any) -> Any:
        with own_errors(self._producer.url):
            return method(self, *args, **more)

    return mapped


def _as_own(error: DBAPIError | adbc_driver_manager.Error) -> ScorebeatError:
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    reason = redact(one_line(database_errors.message(error))).rstrip(".")
    if database_errors.sqlstate(original) == ENDED_BY_A_LIMIT:
        return ScorebeatError(
            f"PostgreSQL ended a statement: {reason}. A statement that only reads has {results.PATIENCE}, another "
            f"what the role's statement_timeout is. {_UNDONE}; try again"
        )
    if database_errors.passes(error):
        return ScorebeatError(f"PostgreSQL ended a statement: {reason}. {_UNDONE}; try again")
    return ScorebeatError(f"PostgreSQL refused a statement: {reason}. {_UNDONE}")

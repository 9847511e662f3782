"""The errors that Scorebeat raises on purpose; each message says what happened, and what to do."""

from difflib import get_close_matches

LONGEST = 2_000
"""Characters of an error or a reason that is stored, logged, posted and shown."""
LONGEST_SHOWN = 60
"""Characters of a person's own value in a message."""


class ScorebeatError(Exception):
    """Work failed for a reason that we can name. The command line prints it and exits with 1."""

    exit_code = 1


class UsageError(ScorebeatError):
    """Wrong usage or configuration: nothing was started, nothing is lost. Exit code 2."""

    exit_code = 2


class SettingsError(UsageError):
    """Environment variables or `.env` hold something unusable, or lack something needed."""


class JobsFileError(UsageError):
    """jobs.toml has mistakes; the message lists all of them, each with its line."""


class WouldRemoveAll(UsageError):
    """The jobs file holds no job and the database does; nothing was removed."""


class UnknownName(UsageError):
    """A job, run or model that nobody has heard of; the message has the near names."""


class QueryError(UsageError):
    """A job's query cannot be used: the message says why and what was expected."""


class SourceLocked(ScorebeatError):
    """A table of a job's query is locked; the message names the lock. Nothing is wrong, it is tried again later."""


class SourceChanged(ScorebeatError):
    """A column of the query has another type than when this process read the query; the next attempt reads it anew."""


class SignatureError(UsageError):
    """What the query gives does not fit what the model wants."""


class ModelError(ScorebeatError):
    """A model is missing, altered or damaged, or its outputs break its contract."""


class OutputError(ModelError):
    """A model returned another length, other columns or other types than its contract says."""


class NonsenseError(ModelError):
    """A model returned NaN, infinity or NULL for a row; the row is to blame, or the model for that row."""


class InputError(ModelError):
    """Rows hold values that the model cannot take; the message names the column and counts or rows."""

    def __init__(self, message: str = "", columns: tuple[str, ...] = (), cause: str = "") -> None:
        super().__init__(message)
        self.columns = columns
        """Those whose values are to blame, where that is known."""
        self.cause = cause
        """What the model itself raised."""


class DeviceMemoryError(ScorebeatError):
    """The device's memory does not hold so many rows at once; fewer of them may fit."""


class NotAllowed(UsageError):
    """A setting of the server does not allow it; the message names the setting."""


class StoreError(UsageError):
    """A model cannot be added to, or read from, the store."""


class ServiceDown(UsageError):
    """PostgreSQL or the broker does not answer or refuses us; no password is ever in the message."""


class PrefixUnknown(ConnectionError):
    """The ledger, which has the prefix of the broker's keys, cannot be read.

    To Celery and kombu the broker is away then: they try again, or tell their caller.
    """


class NotPermitted(UsageError):
    """Our role in PostgreSQL lacks a right; the message says which, and what to do."""


class MigrationFailed(ScorebeatError):
    """A migration could not be done; the message says at which revision the ledger is."""


class ClaimLost(ScorebeatError):
    """The claim expired and the batch moved on; this attempt's predictions were discarded."""


class RunOpen(UsageError):
    """The job already has an open run for this model version."""


class RunNotSucceeded(ScorebeatError):
    """A run that was waited for ended in another state than `succeeded`."""


class RunStillOpen(ScorebeatError, TimeoutError):
    """A run was not over in the time that it was waited for; it goes on."""


class RepeatedKey(ScorebeatError):
    """The query gave one key twice, or NULL for a key."""


class EscapedError(Exception):
    """A model raised what is no Exception, such as SystemExit or asyncio.CancelledError; `__cause__` is that."""


def raised(error: object) -> object:
    """What the model raised: what escaped, for an EscapedError."""
    return error.__cause__ if isinstance(error, EscapedError) and error.__cause__ is not None else error


def kind(error: BaseException) -> str:
    """The name of an error's class; of an EscapedError, that of what escaped."""
    return type(raised(error)).__name__


def text(error: object) -> str:
    """What `str()` returns for an error, or that it fails: an error of a model's own may not be printable."""
    own = raised(error)
    try:
        return str(own)
    except BaseException as failed:  # noqa: BLE001 -- the error's own code, which may raise anything
        return f"(its message cannot be read: str() raised {type(failed).__name__})"


def one_line(error: object) -> str:
    """The words of an error on one line, for a log or a reason; what the database or a library broke is joined."""
    return shortened(" ".join(text(error).split()))


def shortened(words: str, most: int = LONGEST) -> str:
    """At most so many characters: the beginning, an ellipsis and the end, which often says what to do."""
    if len(words) <= most:
        return words
    end = (most - 1) // 4
    return f"{words[: most - 1 - end]}…{words[len(words) - end :]}"


def require_short(name: str, words: str, most: int) -> None:
    """Raises UsageError for a text that is shown wherever it goes, and would fill it."""
    if len(words) > most:
        raise UsageError(f"{name} has {len(words):,} characters; expected at most {most:,}. Nothing was changed")
    if "\0" in words:
        raise UsageError(f"{name} holds a NUL character, which PostgreSQL refuses. Nothing was changed")


def near(word: str, known: list[str]) -> str:
    """A closing sentence that names what was perhaps meant: ` Did you mean 'iris'?`"""
    close = get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(repr(c) for c in close)}?"
    return f" Known: {', '.join(sorted(known))}." if known else ""
